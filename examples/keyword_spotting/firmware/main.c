/* Hears the words of the test clips, one after the other. */
#include "board.h"
#include "clips.h"
#include "kws.h"

static int64_t arena[(KWS_ARENA_BYTES + 7) / 8];

/* The word with the highest score. Codes grow with the scores, so that they need not be converted back. */
static unsigned best(const int8_t *scores) {
    unsigned found = 0;
    for (unsigned k = 1; k < KWS_OUT_SCORES_ELEMENTS; k++) {
        found = scores[k] > scores[found] ? k : found;
    }
    return found;
}

int main(void) {
    uint32_t correct = 0;
    for (unsigned n = 0; n < CLIPS; n++) {
        int8_t features[KWS_IN_FEATURES_ELEMENTS], scores[KWS_OUT_SCORES_ELEMENTS];
        for (unsigned k = 0; k < KWS_IN_FEATURES_ELEMENTS; k++) {
            features[k] = kws_quantize_in_features(clips[n][k]);
        }
        if (kws_run(features, scores, arena) != 0) {
            return 1;
        }
        const unsigned word = best(scores);
        print(words[word]);
        if (word == clip_words[n]) {
            correct++;
            print("\n");
        } else {
            print(" (it was ");
            print(words[clip_words[n]]);
            print(")\n");
        }
    }
    print_number(correct);
    print(" of ");
    print_number(CLIPS);
    print(" words are right, ");
    print_number(KWS_ARENA_BYTES);
    print(" bytes of arena\n");
    return correct * 10 < CLIPS * 9 ? 1 : 0;
}
