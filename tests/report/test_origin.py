"""What rows have in common and in what they differ, from the specs that their score files carry."""

import json

from ditgta.report.evidence import read_score
from ditgta.report.origin import SWITCHES, fairness, options_of
from tests.report.suite import make_suite, write_score


def test_rows_that_differ_in_their_encoding_alone_are_fair(tmp_path):
    scores = [read_score(path) for path in make_suite(tmp_path, milestones=(600,))["scores"]]
    options = options_of(scores)
    names = [option.name for option in options]
    assert names[0] == "model.posenc" and options[0].text == "abs: abs; rope: rope; gta: gta"
    assert names[: len(set(names) & set(SWITCHES))] == [name for name in SWITCHES if name in names]
    assert {"training.learning_rate", "sampling.cfg_channels", "latents.images.size"} <= set(
        names
    ) and "seed" not in names
    assert next(option for option in options if option.name == "model.qk_norm").text == "true"
    assert fairness(options) == (
        True,
        f"Of {len(options)} recorded options, the rows differ only in model.posenc.",
    )


def test_any_other_difference_is_named(tmp_path):
    arguments = make_suite(tmp_path, milestones=(600,))
    path = next(path for path in arguments["scores"] if path.name.startswith("rope"))
    content = json.loads(path.read_text())
    content["samples"]["spec"]["checkpoint"]["spec"]["training"]["learning_rate"] = 3e-4
    del content["samples"]["spec"]["checkpoint"]["spec"]["model"]["qk_norm"]
    path.write_text(json.dumps(content))
    equal, sentence = fairness(options_of([read_score(path) for path in arguments["scores"]]))
    assert not equal and "training.learning_rate (abs: 0.0001, rope: 0.0003, gta: 0.0001)" in sentence
    assert "model.qk_norm (abs: true, rope: —, gta: true)" in sentence


def test_samples_of_unknown_origin_are_not_called_fair(tmp_path):
    score = read_score(write_score(tmp_path / "a.json", "a", 0, None, 9.0, None, spec={}))
    assert fairness(options_of([score])) == (
        False,
        "The score files do not record how their samples were made, so it is unknown whether rows differ in other options.",
    )
