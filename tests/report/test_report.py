"""The report page: what it says is what the program is; nothing on it comes from elsewhere or from a name."""

import json
from html.parser import HTMLParser

import numpy as np
import onnx.parser
import pytest
from click.testing import CliRunner

from onnxc.compiler import cli
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.pipeline import Options
from onnxc.compiler.program.memory_use import memory_use
from onnxc.compiler.report.page import make_report, render
from onnxc.compiler.target import load_target

MODEL = """<ir_version: 9, opset_import: ["" : 18]>
net (float[1, 3, 8, 8] x) => (float[1, 4, 8, 8] y)
<float[4, 3, 3, 3] w, float[4, 4, 1, 1] v> {
    a = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x, w)
    b = Relu (a)
    c = Conv <kernel_shape = [1, 1]> (b, v)
    y = Add (b, c)
}"""
MACS = (4 * 8 * 8 * 27, 4 * 8 * 8 * 4)


class Page(HTMLParser):
    """A page as lists of its elements, and the cells of its tables by section."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.rows, self.texts = [], [], [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs)))
        if tag == "tr":
            section = next(a["id"] for t, a in self.open if t == "section")
            self.rows.append((section, []))
        if tag in ("td", "th"):
            self.rows[-1][1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        self.texts.append(data)
        if any(tag in ("td", "th") for tag, _ in self.open):
            self.rows[-1][1][-1] += data

    def table(self, section):
        return [cells for name, cells in self.rows if name == section]

    def count(self, tag, cls):
        return sum(t == tag and cls in a.get("class", "").split() for t, a in self.elements)


def network(text=MODEL):
    model = onnx.parser.parse_model(text)
    generator = np.random.default_rng(0)
    for name, shape in (("w", (4, 3, 3, 3)), ("v", (4, 4, 1, 1))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name))
    return model


@pytest.fixture(scope="module")
def report():
    return make_report(network(), load_target("c:cortex-m4"), Options())


@pytest.fixture(scope="module")
def page(report):
    return Page(render(report))


def number(cell):
    return int(cell.replace(",", ""))


def test_the_table_has_the_costs_of_each_layer(report, page):
    head, *rows, total = page.table("layers")
    assert head == ["layer", "MACs", "bytes read", "bytes written", "weights", "live RAM"]
    assert len(rows) == len(report.layers)
    assert sorted(number(row[1]) for row in rows)[-2:] == sorted(MACS)
    assert number(total[1]) == sum(MACS)
    for row, layer in zip(rows, report.layers, strict=True):
        assert [number(cell) for cell in row[1:]] == [
            layer.macs, layer.read_bytes, layer.written_bytes, layer.weight_bytes, report.use.live_bytes(layer.number)
        ]  # fmt: skip


def test_bytes_are_those_of_the_tensors(report):
    """Whatever is fused: the first layer that computes reads the input, the last one writes the output."""
    assert max(layer.read_bytes for layer in report.layers) >= 4 * 8 * 8 * 4
    assert report.layers[0].read_bytes == 3 * 8 * 8 * 4
    assert report.layers[-1].written_bytes == 4 * 8 * 8 * 4
    assert sum(layer.weight_bytes for layer in report.layers) >= (4 * 27 + 16) * 4


def test_the_graph_has_a_box_for_each_layer_and_a_line_for_each_flow(report, page):
    assert page.count("rect", "box") == len(report.layers) + 2
    assert page.count("rect", "contraction") == sum(layer.macs > 0 for layer in report.layers)
    assert page.count("path", "flow") == len(report.graph.lines) >= len(report.layers) + 1
    links = {a["href"] for t, a in page.elements if t == "a" and a["href"].startswith("#layer-")}
    assert links == {f"#layer-{k}" for k in range(len(report.layers))}
    assert links <= {f"#{a['id']}" for t, a in page.elements if t == "tr" and "id" in a}


def test_no_two_boxes_of_the_graph_overlap(report):
    boxes = report.graph.boxes
    for k, a in enumerate(boxes):
        assert a.x >= 0 and a.x + a.width <= report.graph.width and a.y + a.height <= report.graph.height
        for b in boxes[k + 1 :]:
            assert a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y


def test_the_arena_shows_every_tensor_where_it_lies(report, page):
    use, picture = report.use, report.arena
    assert page.count("rect", "tensor") == len(use.tensors) > 0
    for box, tensor in zip(picture.boxes, use.tensors, strict=True):
        assert box.height / picture.height == pytest.approx(tensor.bytes / use.arena_bytes)
        assert (picture.height - box.y - box.height) / picture.height == pytest.approx(tensor.offset / use.arena_bytes)
        assert box.width / picture.width == pytest.approx((tensor.last + 1 - tensor.first) / len(use.layers))
    assert use.arena_bytes == memory_use(report.program).arena_bytes == report.program.arena_bytes


def test_flash_is_listed_by_section_and_by_constant(report, page):
    rows = page.table("flash")[1:]
    assert number(rows[0][1]) == report.use.weight_bytes == sum(number(row[1]) for row in rows[2:])
    assert number(rows[1][1]) == report.use.code_bytes


def test_facts_of_the_record_are_there(report, page):
    text = " ".join(page.texts)
    for fact in (report.source.model_sha256, "c:cortex-m4", "ai.onnx 18", "fold_batch_norm", "float32[1, 3, 8, 8]"):
        assert fact in text


def test_nothing_is_loaded_and_nothing_runs(page):
    tags = {tag for tag, _ in page.elements}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert all(a["href"].startswith("#") for _, a in page.elements if "href" in a)
    assert all("src" not in a and not any(name.startswith("on") for name in a) for _, a in page.elements)


def test_the_page_fits_light_and_dark_wide_and_narrow(report):
    text = render(report)
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert "url(http" not in text and "@import" not in text


def test_names_from_a_model_are_text():
    evil = network(MODEL.replace("net (", "evil (").replace("[1, 3, 8, 8] x)", "[1, 3, 8, 8] x)"))
    evil.graph.name = '</title><script>alert("1")</script>'
    for node in evil.graph.node:
        node.name = f'"><img src=x onerror=alert(1)>{node.output[0]}'
    found = Page(render(make_report(evil, load_target("c:cortex-m4"), Options())))
    assert {tag for tag, _ in found.elements}.isdisjoint({"script", "img"})
    assert any("<img src=x" in text for text in found.texts)


def test_measured_instructions_get_a_column(report):
    rows = [{"layer": k, "instructions": 1000 + k} for k in range(len(report.layers))]
    measured = {"machine": "mps2-an386", "instructions": {"total": 5000, "layers": rows}}
    found = make_report(network(), load_target("c:cortex-m4"), Options(), measured)
    head, *body, total = Page(render(found)).table("layers")
    assert head[-1] == "instructions"
    assert [number(row[-1]) for row in body] == [row["instructions"] for row in rows]
    assert number(total[-1]) == sum(row["instructions"] for row in rows)
    for wrong in ({"instructions": {"layers": rows[1:]}}, {"ok": True}):
        with pytest.raises(CompileError) as error:
            make_report(network(), load_target("c:cortex-m4"), Options(), wrong)
        assert error.value.code == "E0601"


def test_open_dimensions_must_be_bound():
    text = MODEL.replace("[1, 3, 8, 8]", "[n, 3, 8, 8]").replace("[1, 4, 8, 8]", "[n, 4, 8, 8]")
    with pytest.raises(CompileError) as error:
        make_report(network(text), load_target("cpu"), Options())
    assert error.value.code == "E0304" and "'n'" in str(error.value)
    assert make_report(network(text), load_target("cpu"), Options({"n": 2})).program.arena_bytes


def test_the_command_writes_the_page(tmp_path):
    onnx.save(network(), tmp_path / "m.onnx")
    arguments = ["report", str(tmp_path / "m.onnx"), "-t", "c:cortex-m4", "-o", str(tmp_path / "r.html")]
    result = CliRunner().invoke(cli.onnxc, arguments)
    assert result.exit_code == 0, result.output
    assert Page((tmp_path / "r.html").read_text()).table("layers")
    told = json.loads(CliRunner().invoke(cli.onnxc, [*arguments, "--json"]).output)
    assert told["file"] == arguments[-1] and told["layers"] == 2
    (tmp_path / "bad.json").write_text(json.dumps([1]))
    assert cli.run([*arguments, "--measured", str(tmp_path / "bad.json")]) == 1
