"""Operators over strings, by the compiler's own semantics, against ONNX's reference evaluator, ONNX Runtime or Python."""

import random
import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import onnxc
from onnxc.compiler.diagnostics import CompileError
from onnxc.compiler.frontend import load_graph
from onnxc.compiler.graph.interpret import run_graph
from onnxc.compiler.ops.regex_automaton import compile_regex
from onnxc.compiler.ops.regex_syntax import RegexError
from onnxc.compiler.ops.string_case import changed
from onnxc.compiler.ops.string_search import hash_table
from onnxc.compiler.program.string_ports import decode_outputs, encode_inputs
from onnxc.compiler.strings import decode_strings, encode_strings

WORDS = np.array([["one", "", "déjà vu"], ["two three", "one", "日本"]], object)


def strings(*items: str) -> np.ndarray:
    return np.array(items, object)


# --- Representation -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items", [WORDS, strings(), strings("", ""), np.array("x", object), strings("\udce9", "a\0b"), np.array(["ab", "c"])]
)
def test_strings_survive_as_spans(items):
    spans, text = encode_strings(items)
    found = decode_strings(spans, text.tobytes())
    assert found.shape == items.shape
    assert found.tolist() == items.tolist()


def test_what_is_no_string_is_refused():
    with pytest.raises(CompileError, match=r"3\.5 is no string"):
        encode_strings(np.array(["a", 3.5], object))


# --- Movement -------------------------------------------------------------------------------------


FLAGS = np.array([True, False, True])
MOVES = [
    ("Transpose", [WORDS], {"perm": [1, 0]}), ("Reshape", [WORDS, np.array([3, -1])], {}), ("Size", [WORDS], {}),
    ("Concat", [WORDS, np.array([["x"], ["yy"]], object)], {"axis": 1}), ("Where", [FLAGS, WORDS, strings("no")], {}),
    ("Slice", [WORDS, np.array([1]), np.array([3]), np.array([1])], {}), ("Tile", [WORDS, np.array([1, 2])], {}),
    ("Gather", [WORDS, np.array([2, 0])], {"axis": 1}), ("Expand", [strings("a", "bb"), np.array([3, 2])], {}),
    ("Compress", [WORDS, FLAGS], {"axis": 1}), ("Pad", [WORDS, np.array([0, 1, 0, 0])], {}), ("Identity", [WORDS], {}),
    ("Pad", [WORDS, np.array([1, 0, 0, 0]), np.array("pad", object)], {}), ("GatherND", [WORDS, np.array([[0, 2], [1, 0]])], {}),
    ("ScatterElements", [WORDS, np.array([[1], [0]]), np.array([["new"], ["er"]], object)], {"axis": 1}),
    ("OneHot", [np.array([1, 0]), np.array(3), strings("off", "on")], {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attrs"), MOVES)
def test_strings_are_moved(check, op, inputs, attrs):
    expected = {"OneHot": [np.array([["off", "on", "off"], ["on", "off", "off"]], object)]}.get(op)
    if op == "Pad":
        whole = np.full((2, 4) if len(inputs) == 2 else (3, 3), "" if len(inputs) == 2 else "pad", object)
        whole[-2:, -3:] = WORDS
        expected = [whole]
    check(op, inputs, attrs, expected=expected)


def test_strings_of_constants_and_inputs_meet(check):
    check("Concat", [strings("a", "b"), strings("c"), strings("a")], {"axis": 0}, constants=[1])
    check("Concat", [strings("a", "b"), strings("c")], {"axis": 0}, constants=[0, 1])


def test_unique(runtime):
    for options in ({}, {"sorted": 0}):
        runtime("Unique", [strings("b", "a", "ab", "b", "", "é", "z")], options, outputs=4)
    runtime("Unique", [np.array([["b", "a"], ["a", "c"], ["b", "a"]], object)], {"axis": 0}, outputs=4)


def test_an_operator_without_strings_is_refused():
    model = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18]> g (string[2] x) => (string[2] y) { y = Relu(x) }')
    with pytest.raises(CompileError, match="E0202"):
        load_graph(model)


def test_strings_of_branches():
    text = """<ir_version: 8, opset_import: ["" : 18]> g (bool c, string[n] x) => (string[m] y)
    { y = If(c) <then_branch = a () => (string[m] t) { t = Identity(x) },
                 else_branch = b () => (string[m] e) { k = Constant <value_strings = ["p", "qq"]> () e = Concat <axis = 0> (k, x) }> }"""
    graph = load_graph(onnx.parser.parse_model(text))
    for condition, expected in ((True, ["in"]), (False, ["p", "qq", "in"])):
        inputs = encode_inputs({"c": np.array(condition), "x": strings("in")}, graph.texts)
        assert decode_outputs(run_graph(graph, inputs), graph.texts)["y"].tolist() == expected


# --- Comparison, concatenation, splitting -----------------------------------------------------------


def test_equality(check):
    check("Equal", [WORDS, np.array([["one"], ["日本"]], object)])


def test_concatenation(check):
    check("StringConcat", [WORDS, strings("x", "", "é")])
    check("StringConcat", [np.array("a", object), WORDS])


@pytest.mark.parametrize(
    "attrs",
    [{}, {"delimiter": "a"}, {"delimiter": "ab"}, {"maxsplit": 1}, {"delimiter": "", "maxsplit": 2}, {"delimiter": "a", "maxsplit": 0}],
)
def test_splitting(check, attrs):
    check("StringSplit", [np.array([["ab cab ", "  a\u00a0b\tc"], ["", "aab\u3000b"]], object)], attrs, outputs=2)


# --- Case and stop words ------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["LOWER", "UPPER", "NONE"])
@pytest.mark.parametrize("sensitive", [0, 1])
def test_normalizer(check, case, sensitive):
    words = strings("Monday", "monday", "ÉCOLE", "ß", "Ωmega", "", "日本")
    attrs = {"case_change_action": case, "is_case_sensitive": sensitive, "stopwords": ["monday", "École"], "locale": "C"}
    kept = [w for w in words if (w if sensitive else w.lower()) not in (attrs["stopwords"] if sensitive else ["monday", "école"])]
    check("StringNormalizer", [words], attrs, expected=[strings(*(changed(w, case) if case != "NONE" else w for w in kept))])


def test_a_normalizer_that_keeps_nothing_gives_an_empty_word(check):
    check("StringNormalizer", [np.array([["a", "a"]], object)], {"stopwords": ["a"], "locale": "C"}, expected=[np.array([[""]], object)])


def test_every_letter_changes_its_case():
    text = "".join(chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000)
    assert changed("İstanbul ß ŉ", "LOWER") == "istanbul ß ŉ"
    assert [a for a, b in zip(text, changed(text, "UPPER"), strict=True) if len(a.upper()) == 1 and a.upper() != b] == []


# --- Regular expressions ------------------------------------------------------------------------------

EXPRESSIONS = [
    r"^[a-z]+@[a-z]+\.(com|org)$", r"a{2,3}b*", r"\bfoo\b.*", r"(?i)h[aeé]llo+", r"[^a-c]*x", r"(a|b)*abb", r"\d{3}-\d{4}", "", r"x*?y+?",
    r".*\n?", r"(?s).*o", r"(?m)^a$\n^b$", r"(?:ab|cd)+|e", r"[\w-]+", r"a|^$", r"[]a-]+", r"\x41\x{e9}?", r"(?P<n>a)b{0}", r"\B-\B",
]  # fmt: skip


@pytest.mark.parametrize("pattern", EXPRESSIONS)
def test_expressions_match_as_those_of_python(pattern):
    automaton, expected = compile_regex(pattern), re.compile("(?a)" + _python(pattern))
    pick = random.Random(pattern)
    samples = ["foo", "abb", "aab", "hello", "HÉllo", "a\nb", "123-4567", "foo bar", "a@b.com", "Aé", "日", "-", "a\n"]
    samples += ["".join(pick.choices("abcx yé@.\n-foo1234", k=pick.randrange(7))) for _ in range(300)]
    for text in samples:
        assert automaton.matches(text.encode()) == bool(expected.fullmatch(text)), text


def _python(pattern: str) -> str:
    """Python's spelling of an expression of RE2: `$` is the very end, and cases of all letters need no flag of ASCII."""
    pattern = pattern.replace("$", r"\Z") if "(?m)" not in pattern else pattern
    return pattern.replace("(?i)h[aeé]llo+", "[hH][aAeEéÉ][lL][lL][oO]+").replace(r"\x{e9}", "é")


def test_classes_of_characters():
    assert [compile_regex(p).matches("Ω".encode()) for p in (r"\p{Lu}", r"\pL", r"\P{Lu}", r"[[:alpha:]]", r"\p{Any}")] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert compile_regex(r"[[:^digit:]x]+").matches(b"ax")


@pytest.mark.parametrize(
    "pattern", ["(", "a)", "[a", r"(a)\1", "(?=a)", "a{3,2}", "*a", r"\p{Nothing}", r"a{1001}", r"\q", "(?P<1>a)", "x{1000}{1000}"]
)
def test_malformed_expressions_are_refused(pattern):
    with pytest.raises(RegexError):
        compile_regex(pattern)


def test_full_match(check):
    check("RegexFullMatch", [WORDS], {"pattern": r"(\w+ ?)+"}, expected=[np.array([[True, False, False], [True, True, False]])])


@pytest.mark.parametrize(
    "attrs",
    [{"tokenexp": "[a-z]+"}, {"tokenexp": "[a-zé]+", "mark": 1}, {"separators": [" "], "mincharnum": 2}, {"separators": [""]},
     {"separators": [",", " ", ";"], "mincharnum": 1, "mark": 1}, {"tokenexp": "a|ab"}],
)  # fmt: skip
def test_tokenizer(runtime, attrs):
    attrs = {"mark": 0, "pad_value": "#", "mincharnum": 1} | attrs
    runtime("Tokenizer", [strings("ab, c;é dé", "x", "aab  b")], attrs, domain="com.microsoft")


def test_no_tokens_have_no_marks(runtime):
    runtime(
        "Tokenizer", [strings("7", "", "#")], {"tokenexp": "[a-z]", "mark": 1, "pad_value": "#", "mincharnum": 1}, domain="com.microsoft"
    )


# --- Tables -----------------------------------------------------------------------------------------


def test_hash_tables_hold_every_item_once():
    items = [f"item {k % 70}".encode() for k in range(100)]
    assert sorted(hash_table(items)[hash_table(items) >= 0].tolist()) == list(range(70))


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
def test_ngrams_of_strings(runtime, mode):
    attrs = {"mode": mode, "ngram_counts": [0, 2], "ngram_indexes": [0, 1, 2, 3], "pool_strings": ["a", "b", "a", "b", "b", "é"],
             "min_gram_length": 1, "max_gram_length": 2, "max_skip_count": 1, "weights": [1.0, 2.0, 3.0, 4.0]}  # fmt: skip
    runtime("TfIdfVectorizer", [np.array([["a", "b", "x", "b"], ["b", "é", "a", "b"]], object)], attrs)


# --- Maps ---------------------------------------------------------------------------------------------

ML = "ai.onnx.ml"


def map_model(node: onnx.NodeProto, key: int, value: int) -> onnx.ModelProto:
    """A model whose input is a map."""
    x = helper.make_value_info("x", helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, [])))
    y = helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)
    graph = helper.make_graph([node], "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(ML, 3)], ir_version=8)


def run_compiled(model: onnx.ModelProto, **inputs: object) -> dict[str, object]:
    return dict(onnxc.compile(model, threads=1, cache=False).run(inputs))


def test_maps_become_rows():
    words = helper.make_node("DictVectorizer", ["x"], ["y"], domain=ML, string_vocabulary=["a", "é", "c"])
    model = map_model(words, TensorProto.STRING, TensorProto.FLOAT)
    assert run_compiled(model, x={"c": 2.5, "other": 1.0, "a": -1.0})["y"].tolist() == [[-1.0, 0.0, 2.5]]
    assert run_compiled(model, x={})["y"].tolist() == [[0.0, 0.0, 0.0]]
    numbers = helper.make_node("DictVectorizer", ["x"], ["y"], domain=ML, int64_vocabulary=[7, 3])
    model = map_model(numbers, TensorProto.INT64, TensorProto.STRING)
    assert run_compiled(model, x={3: "three", 4: "four"})["y"].tolist() == [["", "three"]]


@pytest.mark.parametrize(("attrs", "expected"), [({}, [[3.0, 1.5]]), ({"map_form": "SPARSE", "max_map": 4}, [[0.0, 3.0, 0.0, 0.0]])])
def test_maps_are_cast(attrs, expected):
    model = map_model(
        helper.make_node("CastMap", ["x"], ["y"], domain=ML, cast_to="TO_FLOAT", **attrs), TensorProto.INT64, TensorProto.FLOAT
    )
    assert run_compiled(model, x={8: 1.5, 1: 3.0})["y"].tolist() == expected


def test_a_map_that_does_not_fit_is_refused():
    node = helper.make_node("DictVectorizer", ["x"], ["y"], domain=ML, string_vocabulary=["a"])
    for wrong, message in (([1.0], "a dict"), ({1: 2.0}, "wrong type")):
        with pytest.raises(CompileError, match=message):
            run_compiled(map_model(node, TensorProto.STRING, TensorProto.FLOAT), x=wrong)


def test_rows_become_maps():
    node = helper.make_node("ZipMap", ["x"], ["y"], domain=ML, classlabels_strings=["no", "yes"])
    x, y = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2]), onnx.ValueInfoProto(name="y")
    graph = helper.make_graph([node], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(ML, 3)], ir_version=8)
    assert run_compiled(model, x=np.array([[1, 2], [3, 4]], np.float32))["y"] == [{"no": 1.0, "yes": 2.0}, {"no": 3.0, "yes": 4.0}]


# --- Compiled -----------------------------------------------------------------------------------------

TEXT_MODEL = """<ir_version: 8, opset_import: ["" : 20]>
text (string[n, m] x) => (string[n, m] y, string[k] words, bool[n, m] hit, int64[n, m] count)
{
  suffix = Constant <value_string = "!"> ()
  y = StringConcat(x, suffix)
  pieces, count = StringSplit <delimiter = "b"> (x)
  flat = Constant <value_ints = [-1]> ()
  row = Reshape(pieces, flat)
  words = Unique(row)
  hit = RegexFullMatch <pattern = "[ab]*"> (x)
}"""


@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (1, 1)])
def test_compiled_for_the_cpu(shape):
    x = np.resize(strings("abba", "", "bé", "b"), shape).astype(object)
    found = run_compiled(onnx.parser.parse_model(TEXT_MODEL), x=x)
    pieces = [w.split("b") for w in x.reshape(-1)]
    most = max(map(len, pieces), default=0)
    assert found["y"].tolist() == [[w + "!" for w in row] for row in x.tolist()]
    assert found["words"].tolist() == sorted({w for p in pieces for w in p + [""] * (most - len(p))})
    assert found["hit"].tolist() == [[bool(re.fullmatch("[ab]*", w)) for w in row] for row in x.tolist()]
    assert found["count"].tolist() == [[len(w.split("b")) for w in row] for row in x.tolist()]


def test_saved_models_keep_their_strings(tmp_path):
    x = np.array([["abba", "é"]], object)
    model = onnxc.compile(onnx.parser.parse_model(TEXT_MODEL), threads=1, cache=False)
    model.save(tmp_path / "text")
    assert [(p.name, p.dtype.label) for p in model.inputs] == [("x", "string")]
    assert onnxc.load(tmp_path / "text").run({"x": x})["y"].tolist() == [["abba!", "é!"]]
    with pytest.raises(CompileError, match="wants strings"):
        model.run({"x": np.zeros((1, 2))})


# --- Numbers ------------------------------------------------------------------------------------------

FLOATS = np.array(
    [0.0, -0.0, 1.0, -2.5, 3.14, 1e-5, 1e-4, 123456.79, 1e15, 1e16, 3.4028235e38, 1e-45, 1.1754944e-38, 9.999999e9, 0.1, 1 / 3, np.nan,
     np.inf, -np.inf, 16777216.0, 99999992.0, 5e-7], np.float32
)  # fmt: skip


def shortest(numbers: np.ndarray) -> np.ndarray:
    """As Python writes the numbers with the fewest digits that are rounded to these."""
    return strings(*(repr(float(np.format_float_scientific(x, unique=True))) for x in numbers))


def test_floats_are_written_with_the_fewest_digits(check, rng):
    check("Cast", [FLOATS], {"to": TensorProto.STRING}, expected=[shortest(FLOATS)])
    some = rng.standard_normal(60).astype(np.float32) * np.float32(10.0) ** rng.integers(-30, 30, 60).astype(np.float32)
    check("Cast", [some], {"to": TensorProto.STRING}, expected=[shortest(some)])


def test_integers_are_written(check):
    numbers = np.array([0, -7, 10, 99, 100, 2**63 - 1, -(2**63), 10**18, 10**18 - 1])
    check("Cast", [numbers], {"to": TensorProto.STRING}, expected=[numbers.astype(str).astype(object)])
    check("Cast", [np.array([True, False])], {"to": TensorProto.STRING}, expected=[strings("True", "False")])


def test_numbers_are_read(check):
    texts = [
        "3.14",
        "-0",
        " 1e-5 ",
        "1E8",
        "+7",
        ".5",
        "2.",
        "inf",
        "-Infinity",
        "NaN",
        "123456789012345678901234567890",
        "1e400",
        "4.9e-324",
        "0.1",
    ]
    for code, dtype in ((TensorProto.FLOAT, np.float32), (TensorProto.DOUBLE, np.float64)):
        with np.errstate(all="ignore"):
            expected = np.array([float(text) for text in texts]).astype(dtype)
        check("Cast", [strings(*texts)], {"to": code}, expected=[expected], rtol=3e-16)
    check("Cast", [strings("12", "-34", "+0", " 7 ")], {"to": TensorProto.INT32}, expected=[np.array([12, -34, 0, 7], np.int32)])
    check("CastLike", [strings("12"), np.zeros(1, np.int64)], expected=[np.array([12])])


@pytest.mark.parametrize("text", ["", "x", "1x", "--1", "1e", "1.2.3", "e5", ".", "99999999999999999999999999e"])
def test_what_is_no_number_is_an_error(check, text):
    with pytest.raises(Exception, match="no number"):
        check("Cast", [strings(text)], {"to": TensorProto.FLOAT}, expected=[np.zeros(1, np.float32)])
