/* Runs a model once on the inputs of a file; every tensor and the arena lie on the heap, where sanitizers see their ends. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int onnxc_entry(void **inputs, void **outputs, int64_t *symbols, void *arena);

static void *room(int64_t bytes, int fill) {
    void *found = malloc((size_t)bytes);
    if (found != NULL) {
        memset(found, fill, (size_t)bytes);
    }
    return found;
}

static void get(void *into, int64_t bytes, FILE *file) {
    if (bytes > 0 && fread(into, (size_t)bytes, 1, file) != 1) {
        exit(97);
    }
}

static void put(const void *from, int64_t bytes, FILE *file) {
    if (bytes > 0 && fwrite(from, (size_t)bytes, 1, file) != 1) {
        exit(98);
    }
}

int main(int argc, char **argv) {
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
    int64_t head[4];
    if (file == NULL) {
        return 96;
    }
    get(head, sizeof head, file);
    const int64_t inputs = head[0], outputs = head[1], symbols = head[2];
    int64_t *sizes = room((inputs + outputs) * 8, 0), *table = room(symbols * 8, 0), status;
    void **tensors = room((inputs + outputs) * (int64_t)sizeof *tensors, 0), *arena = room(head[3], 0xA5);
    get(sizes, (inputs + outputs) * 8, file);
    get(table, symbols * 8, file);
    for (int64_t i = 0; i < inputs + outputs; i++) {
        tensors[i] = room(sizes[i], 0x5A);
        if (i < inputs) {
            get(tensors[i], sizes[i], file);
        }
    }
    fclose(file);
    status = onnxc_entry(tensors, tensors + inputs, table, arena);
    file = fopen(argv[2], "wb");
    if (file == NULL) {
        return 96;
    }
    put(&status, 8, file);
    put(table, symbols * 8, file);
    for (int64_t i = 0; i < inputs + outputs; i++) {
        if (i >= inputs) {
            put(tensors[i], sizes[i], file);
        }
        free(tensors[i]);
    }
    free(sizes);
    free(table);
    free(tensors);
    free(arena);
    return fclose(file);
}
