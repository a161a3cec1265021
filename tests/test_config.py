"""The configuration: defaults, inheritance, files, the schema for editors, and faults told in one go."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from ditgta import config
from ditgta.data.contents import Sources
from ditgta.runtime.errors import InputError
from ditgta.specs import Specs
from tests.conftest import ROOT

SUITE = {"experiments": ["a"], "milestones": [10]}


def load(experiments: dict, suites: dict | None = None, **more):
    return config.load({"suite": "s", "experiments": experiments, "suites": suites or {"s": SUITE}, **more})


def faults(experiments: dict, suites: dict | None = None, **more) -> str:
    with pytest.raises(InputError) as caught:
        load(experiments, suites, **more)
    return str(caught.value)


def test_the_repository_s_own_configuration_holds():
    content = config.load(yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text()))
    assert content.suites["digits"].experiments == ("abs", "rope", "gta")
    assert [content.experiments[name].model.posenc for name in ("abs", "rope", "gta")] == [
        "abs",
        "rope",
        "gta",
    ]
    zoo = [suite for name, suite in content.suites.items() if name.startswith("zoo-")]
    rows = {row for suite in zoo for row in suite.experiments}
    assert {content.experiments[row].model.posenc for row in rows} == set(config.POSENCS)
    paper = content.experiments["imagenet256-gta"]
    assert (paper.model.name, paper.training.batch_size, paper.training.learning_rate) == (
        "DiT-B/2",
        256,
        1e-4,
    )
    assert content.suites["paper"].sampling.num_samples == 50000
    assert content.suites["paper"].milestones == (200000, 400000, 1000000, 2500000)


def test_zoo_values_turns_values_beside_what_each_encoding_turns():
    """In each difference the first has the second's options, and an encoding that rotates values as the only other thing."""
    content = config.load(yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text()))
    suite, specs = content.suites["zoo-values"], Specs(content, Sources(Path("none")))
    assert {row for pair in suite.differences for row in pair} == set(suite.experiments)
    for pair in suite.differences:
        first, second = (specs.training(name, 0) for name in pair)
        names = [spec["model"].pop("posenc") for spec in (first, second)]
        assert names == ["vo", "none"] or names[0] == names[1].replace("rope", "gta")
        assert first == second


def test_editors_know_the_encodings_and_the_form_of_ones_own():
    names, own = config.Model.model_json_schema()["properties"]["posenc"]["anyOf"]
    assert names["enum"] == list(config.POSENCS)
    assert re.search(own["pattern"], "a.b:C") and not re.search(own["pattern"], "rop")


def test_digits_flow_differs_from_digits_aligned_in_the_objective_and_its_sampler_alone():
    content = config.load(yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text()))
    flow, plain = content.suites["digits-flow"], content.suites["digits-aligned"]
    specs = Specs(content, Sources(Path("none")))
    assert [row.replace("flow", "aligned") for row in flow.experiments] == list(plain.experiments)
    for row in plain.experiments:
        spec, other = (specs.training(name, 0) for name in (row.replace("aligned", "flow"), row))
        assert spec["training"].pop("objective") == "flow" and other["training"].pop("objective") == "ddpm"
        assert spec == other
    assert (flow.milestones, flow.seeds, flow.scorer) == (plain.milestones, plain.seeds, plain.scorer)
    assert flow.sampling.model_copy(update={"sampler": "ancestral"}) == plain.sampling


def test_a_sampler_must_suit_the_objective_of_every_row():
    flow = {"training": {"objective": "flow"}}
    text = faults(
        {"a": flow, "b": flow, "c": {}},
        {"s": {**SUITE, "experiments": ["a", "b", "c"], "sampling": {"sampler": "ancestral"}}},
    )
    line = "suites.s.sampling: sampler ancestral does not belong to objective flow; use euler or heun or euler-ancestral (rows: a, b)"
    assert text.endswith(line)
    heun = {**SUITE, "sampling": {"sampler": "heun"}}
    assert load({"a": flow}, {"s": heun}).suites["s"].sampling.sampler == "heun"
    assert "objective ddpm; use ancestral or ddim or dpm-solver++ (rows: a)" in faults({"a": {}}, {"s": heun})


def test_an_encoding_must_be_able_to_be_told_of_another_size():
    rows = {name: {"model": {"posenc": name}} for name in ("rope", "abs-learned", "none", "rope-mixed")}
    images = {"images": {"size": 32}}
    rows = {name: row | images for name, row in rows.items()}

    def suite(**sampling):
        return {"s": {**SUITE, "experiments": list(rows), "sampling": sampling}}

    text = faults(rows, suite(size=64, positions="ntk"))
    for line in (
        "posenc abs-learned cannot be sampled at another size with positions ntk; use interpolate (rows: abs-learned)",
        "positions ntk; use extrapolate or interpolate (rows: none)",
        "positions ntk; use extrapolate or interpolate or parts (rows: rope-mixed)",
    ):
        assert line in text
    assert "posenc rope cannot" not in text
    assert load(rows, suite(size=64, positions="interpolate")).suites["s"].sampling.size == (64, 64)
    assert "abs-learned" in faults(rows, suite(size=[32, 64]))
    assert load(rows, suite(size=32)).suites["s"].sampling.size == (32, 32)
    assert "give size too" in faults(rows, suite(temperature="log"))
    assert load(rows, suite(size=32, temperature=1)).suites["s"].sampling.temperature == "1"


def test_like_takes_what_the_experiment_does_not_say():
    content = load(
        {
            "base": {"model": {"name": "DiT-S/4", "posenc": "abs"}, "training": {"batch_size": 8}},
            "middle": {"like": "base", "training": {"flip": "none"}},
            "a": {"like": "middle", "model": {"posenc": "rope"}},
        }
    )
    row = content.experiments["a"]
    assert (row.model.name, row.model.posenc, row.training.batch_size, row.training.flip) == (
        "DiT-S/4",
        "rope",
        8,
        "none",
    )


@pytest.mark.parametrize(
    ("experiments", "line"),
    [
        ({"a": {"like": "b"}}, "experiments.a.like: b is not an experiment"),
        ({"a": {"like": "b"}, "b": {"like": "a"}}, "a -> b -> a is a cycle"),
        ({"a": {"model": {"posenc": "gat"}}}, "did you mean gta?"),
        ({"a": {"modle": {}}}, "experiments.a.modle: no such option; did you mean model?"),
        ({"a": {"training": {"batch_size": 0}}}, "experiments.a.training.batch_size: "),
        ({"a b": {}, "a": {}}, "names become folders"),
        ({"a": {"model": {"posenc": "vo", "rotary_base": 1}}}, "experiments.a.model.rotary_base: "),
        (
            {"a": {"like": "b", "model": {"posenc": "abs"}}, "b": {"model": {"rotary_base": 100}}},
            "experiments.a.model: posenc abs does not rotate, so it takes neither rotary_base nor absolute_table",
        ),
    ],
)
def test_faults_of_experiments(experiments, line):
    assert line in faults(experiments)


@pytest.mark.parametrize(
    ("suite", "line"),
    [
        ({**SUITE, "experiments": ["b"]}, "suites.s: b is not an experiment"),
        ({**SUITE, "milestones": [20, 10]}, "milestones must increase; sort them"),
        ({**SUITE, "milestones": []}, "suites.s.milestones: "),
        ({**SUITE, "seeds": [0, 0]}, "seeds must be different"),
        ({"experiments": ["a"]}, "suites.s.milestones: missing"),
        ({**SUITE, "differences": [["a", "c"]]}, "c is not an experiment"),
        ({**SUITE, "primary": "fidd"}, "did you mean fid?"),
        ({**SUITE, "training_cov": 1.3}, "suites.s.training_cov: input should be less than 1"),
        ({**SUITE, "differences": ["a", "b"]}, "write a list of pairs (first minus second): [[a, b]]"),
        (
            {**SUITE, "differences": [["a", "b", "c"]]},
            "write a list of pairs (first minus second): [[a, b]]",
        ),
        (
            {**SUITE, "differences": [{"name": "x", "weights": {"a": 1, "c": -1}}]},
            "suites.s: c is not an experiment",
        ),
        (
            {**SUITE, "differences": [{"name": "x", "weights": {"a": 1}}]},
            "weights must add up to 0, not 1",
        ),
        ({**SUITE, "differences": [{"name": "x", "weights": {"a": 0}}]}, "weights are all 0"),
        ({**SUITE, "differences": [{"name": "x", "weight": {"a": 0}}]}, "weight: no such option"),
        ({**SUITE, "published": {"a": {20: 3.5}}}, "name it in published_source"),
        (
            {**SUITE, "published": {"b": {20: 3.5}}, "published_source": "x"},
            "published: b is not an experiment",
        ),
        ({**SUITE, "published": {"a": {20: -3.5}}, "published_source": "x"}, "greater than 0"),
        ({**SUITE, "seeds": 3}, "write a list: [0, 1, 2] for three seeds, or [3] for seed 3 alone"),
    ],
)
def test_faults_of_suites(suite, line):
    assert line in faults({"a": {}}, {"s": suite})


def test_one_mistake_is_one_fault():
    text = faults({"a": {}}, {"s": {**SUITE, "seeds": [1.5]}})
    assert len(text.splitlines()) == 2 and "suites.s.seeds.0: input should be a valid integer" in text


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("lr", "did you mean learning_rate?"),
        ("bs", "did you mean batch_size?"),
        ("wd", "did you mean weight_decay?"),
        ("ema", "did you mean ema_decay?"),
        ("epochs", "training is counted in steps: the suite's milestones"),
        ("batch", "did you mean batch_size?"),
    ],
)
def test_what_options_are_called_elsewhere(option, hint):
    assert f"experiments.a.training.{option}: no such option; {hint}" in faults(
        {"a": {"training": {option: 1}}}
    )


def test_a_suite_is_no_word_of_the_workflow():
    assert "suites.scores: scores is a reserved word of the workflow" in faults(
        {"a": {}}, {"scores": SUITE, "s": SUITE}
    )


def test_names_that_yaml_reads_as_something_else():
    raw = yaml.safe_load(
        "{suite: s, experiments: {7: {}, on: {}, a: {}}, suites: {s: {experiments: [a], milestones: 1}}}"
    )
    with pytest.raises(InputError) as caught:
        config.load(raw)
    assert "experiments.7: YAML reads this name as a number; put it in quotes" in str(caught.value)
    assert "experiments.True: YAML reads this name as a yes or no" in str(caught.value)


def test_rows_of_a_suite_share_their_images():
    experiments = {"a": {}, "b": {"images": {"size": 64}}}
    assert "different images" in faults(experiments, {"s": {**SUITE, "experiments": ["a", "b"]}})


def test_all_faults_come_at_once():
    text = faults({"a": {"training": {"lr": 1, "batch_size": "many"}}}, {"s": {**SUITE, "seed": 1}})
    assert text.startswith("the configuration has 3 errors:") and len(text.splitlines()) == 4


def test_numbers_may_come_as_text():
    training = {"learning_rate": "1e-4", "batch_size": "32", "tf32": "true"}
    options = load({"a": {"training": training}}).experiments["a"].training
    assert (options.learning_rate, options.batch_size, options.tf32) == (1e-4, 32, True)


def test_free_options_become_flags():
    options = config.Training(log_every=7, micro_batch=2, checkpoint_gradients=True, learning_rate=3.0)
    assert options.free_flags() == "--checkpoint-gradients --micro-batch 2 --log-every 7"
    assert config.Training().free_flags() == ""
    assert config.Training(tracker="$(touch x)").free_flags() == "--tracker '$(touch x)'"


def test_metrics_that_can_be_primary_are_columns_of_which_one_end_is_better():
    from ditgta.report.model import CLASS_ACCURACY, DINOV2, LOSS, METRICS

    ranked = {metric.key for metric in (*METRICS, *DINOV2, CLASS_ACCURACY, LOSS) if metric.better}
    assert set(config.names.PRIMARY) <= ranked
    assert load({"a": {}}, {"s": {**SUITE, "primary": "kid"}}).suites["s"].primary == "kid"
    judged = {**SUITE, "primary": "fd_dinov2"}
    with pytest.raises(InputError, match="primary fd_dinov2 needs a second judge"):
        load({"a": {}}, {"s": judged})
    assert (
        load({"a": {}}, {"s": {**judged, "scorer": {"judge": "w.pth"}}}).suites["s"].scorer.judge == "w.pth"
    )


def test_each_training_seed_has_noise_of_its_own():
    plain = config.Sampling(seed=3)
    assert plain.noise_seed == 3 and plain.spec()["training_seed"] is None
    first = plain.of_training(0)
    assert first.noise_seed == config.Sampling(seed=3, training_seed=0).noise_seed == 2452048284231183779
    assert first.spec() == {**plain.spec(), "training_seed": 0}
    seeds = {config.Sampling(seed=s, training_seed=t).noise_seed for s in range(20) for t in range(20)}
    assert len(seeds) == 400 and not seeds & set(range(20))


def test_a_source_is_one_thing_however_it_is_written():
    written = [load({"a": {"images": {"source": path}}}) for path in ("pics", "pics/", "./pics", "x/../pics")]
    assert {content.experiments["a"].images.source for content in written} == {"pics"}


def test_files_are_merged_over_config_yaml(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config.yaml").write_text(
        "{suite: s, experiments: {a: {}}, suites: {s: {experiments: a, milestones: [1]}}}"
    )
    Path("more.yaml").write_text("experiments: {b: {like: a}}\nsuites: {s: {experiments: [a, b]}}")
    assert config.load(config.read()).suites["s"].experiments == ("a",)
    assert config.load(config.read([Path("more.yaml")])).suites["s"].experiments == ("a", "b")
    Path("config.yaml").unlink()
    assert "zoo-values" in config.read()["suites"], "the one beside the Snakefile"
    monkeypatch.setattr("ditgta.config.files.CHECKOUT", tmp_path)
    with pytest.raises(
        InputError, match=f"there is no config.yaml in {tmp_path}; run in the folder that holds it"
    ):
        config.read()
    assert config.read([Path("more.yaml")])["suites"] == {"s": {"experiments": ["a", "b"]}}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "does not exist"),
        ("a: [1", "is not a readable YAML file"),
        ("- 1", "it holds no `name: value` lines"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, text, line):
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=line) as caught:
        config.read([tmp_path / "c.yaml"])
    assert "\n" not in str(caught.value)


def numbers_of_yaml_1_2(tree):
    """Returns what an editor reads: 3e-3 is a number to YAML 1.2, text to this library."""
    if isinstance(tree, dict):
        return {key: numbers_of_yaml_1_2(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [numbers_of_yaml_1_2(value) for value in tree]
    return float(tree) if isinstance(tree, str) and re.fullmatch(r"[0-9.]+e-?[0-9]+", tree) else tree


def test_the_schema_for_editors_is_up_to_date_and_takes_the_configuration():
    text = (ROOT / "config.schema.json").read_text()
    assert text == config.json_schema(), "write it with: ditgta schema --out config.schema.json"
    head = (ROOT / "config.yaml").read_text().splitlines()[0]
    assert head == "# yaml-language-server: $schema=config.schema.json"
    schema = jsonschema.Draft202012Validator(json.loads(text))
    content = numbers_of_yaml_1_2(yaml.safe_load((ROOT / "config.yaml").read_text()))
    assert list(schema.iter_errors(content)) == []
    for wrong in (
        {"suites": {"s": {"experiments": "a", "milestone": 1}}},
        {"experiments": {"a": {"model": {"posenc": "gat"}}}},
    ):
        assert list(schema.iter_errors(content | wrong))


def test_a_sampler_that_is_not_chosen_is_the_first_of_the_objective():
    rows = {"a": {}, "b": {"training": {"objective": "flow"}}}
    suites = {"s": {"experiments": ["a"], "milestones": [1]}, "t": {"experiments": ["b"], "milestones": [1]}}
    content = config.load({"suite": "s", "experiments": rows, "suites": suites})
    assert [content.suites[name].sampling.sampler for name in "st"] == ["ancestral", "euler"]


def test_options_that_came_later_leave_specs_as_they_were():
    experiment = load({"a": {}}).experiments["a"]
    later = {
        "hold_out",
        "held_out",
        "placement",
        "pixels",
        "label_std",
        "warmup",
        "betas",
        "timesteps",
        "time_density",
    }
    assert not later & {key for section in experiment.spec().values() if section for key in section}
    changed = {
        "images": {"hold_out": 0.2, "placement": {"grid": 2}, "size": 16},
        "autoencoder": {"pixels": "grey"},
        "model": {"label_std": 0.5},
        "training": {"warmup": 50, "betas": [0.9, 0.99], "timesteps": "stratified", "posterior": "mean"},
    }
    spec = load({"a": changed}).experiments["a"].spec()
    assert spec["images"]["placement"] == {"scales": [8], "grid": 2, "copies": 4, "held_out_copies": 1}
    assert spec["training"]["betas"] == [0.9, 0.99] and spec["autoencoder"]["pixels"] == "grey"
    assert spec["model"]["label_std"] == 0.5 and spec["images"]["hold_out"] == 0.2


@pytest.mark.parametrize(
    ("experiment", "line"),
    [
        ({"images": {"hold_out": 0.2, "held_out": "x", "source": "y"}}, "give one of them"),
        ({"images": {"held_out": "x"}}, "the digits have no other source to hold out; give hold_out"),
        ({"images": {"source": "y", "placement": {}}}, "placement is for source digits; set placement: null"),
        ({"images": {"size": 12, "placement": {"scales": [16]}}}, "does not fit a canvas of size 12"),
        ({"autoencoder": {"pixels": "grey"}}, "pixels have no posterior to draw from"),
        ({"autoencoder": {"pixels": "rgb", "pretrained": "a/b"}}, "give one of them"),
    ],
)
def test_faults_of_held_out_and_placed_images(experiment, line):
    assert line in faults({"a": experiment})
