"""The command line: lists, booleans, presets, and the release's spelling."""

import dataclasses
import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from DiffRec import DiffRec
from DiffRec.engine import commands
from DiffRec.engine.errors import InputError
from DiffRec.engine.flags import choices_of, flags_of
from DiffRec.engine.paper import paper_figures
from DiffRec.engine.settings import RunOptions, integers
from DiffRec.engine.variant import REGISTRY, variant_of
from DiffRec.models.DNN import DNN
from DiffRec.models.gaussian_diffusion import GaussianDiffusion
from DiffRec.models.timestep_sampler import ImportanceSampler
from L_DiffRec.models.VAE import ClusteredVAE


class Everything:
    """Settings and options of a command line, by name."""

    def __init__(self, settings, options):
        vars(self).update(dict(settings), **dict(options))


def parse(*argv, variant="DiffRec"):
    return Everything(*commands.parse(variant_of(variant), list(argv)))


@given(st.lists(st.integers(1, 10**6)))
def test_lists_are_read_however_they_are_written(values):
    for text in (str(values), str(values).replace(" ", ""), " ".join(map(str, values))):
        assert list(integers(text)) == values


@pytest.mark.parametrize(
    "words", [["[200,600]"], ["200", "600"], ["[200,", "600]"], ["[200, 600]"], ["200,600"]]
)
def test_lists_survive_the_shell(words):
    assert parse("--dims", *words).dims == (200, 600)


@pytest.mark.parametrize("text", ["[200;600]", "abc", "[-1]", "[2.5]", "[200,600"])
def test_lists_that_do_not_parse(text):
    with pytest.raises(InputError, match=r"dims.*positive integers"):
        parse(f"--dims={text}")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", False), ("1", True), ("true", True), ("False", False), ("no", False), ("YES", True)],
)
def test_booleans_mean_what_they_say(text, value):
    assert parse(f"--reweight={text}").reweight is value


def test_a_boolean_may_stand_alone():
    args = parse("--tst_w_val", "--cuda", "--norm")
    assert args.tst_w_val
    assert args.cuda
    assert args.norm
    assert parse().cuda is None


def test_the_releases_training_command():
    """Every flag its run.sh passes, spelled its way."""
    args = parse(
        "--cuda", "--dataset=yelp_clean", "--data_path=../datasets/yelp_clean/", "--lr=1e-05",
        "--weight_decay=0", "--batch_size=400", "--dims=[1000]", "--emb_size=10", "--mean_type=x0",
        "--steps=5", "--noise_scale=0.01", "--noise_min=0.001", "--noise_max=0.01",
        "--sampling_steps=0", "--reweight=1", "--log_name=log", "--round=1", "--gpu=0",
        "--epochs=10", "--topN=[10, 20, 50, 100]", "--tst_w_val", "--save_path=./saved_models/",
        "--noise_schedule=linear-var", "--sampling_noise=False", "--time_type=cat", "--norm=False",
    )  # fmt: skip
    assert (args.lr, args.dims, args.topN) == (1e-5, (1000,), (10, 20, 50, 100))
    assert args.reweight
    assert not args.norm


def test_flag_beats_preset_beats_default():
    assert parse("--dataset", "ml-1m_noisy").steps == 5
    assert parse("--dataset", "ml-1m_noisy", "--steps", "7").steps == 7
    assert parse("--dataset", "ml-1m_noisy", "--preset", "none").steps == 100
    assert parse("--dataset", "mine", "--preset", "ml-1m_noisy").noise_scale == 0.5
    assert parse("--dataset", "mine").preset == "own_data"
    assert parse().preset == "ml-1m_clean"


def test_the_preset_of_a_data_path_alone(tmp_path):
    """A folder of lists is the data set of its name; any other is a parent of the default one."""
    for name, preset in (("ml-1m_noisy", "ml-1m_noisy"), ("mine", "own_data")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train_list.npy").touch()
        assert parse("--data_path", str(tmp_path / name)).preset == preset
    assert parse("--data_path", str(tmp_path)).preset == "ml-1m_clean"


def test_defaults_are_the_releases():
    args = parse("--preset", "none")
    values = (args.lr, args.weight_decay, args.batch_size, args.epochs, args.dims, args.emb_size)
    assert values == (1e-4, 0, 400, 1000, (1000,), 10)
    assert (args.steps, args.noise_scale, args.noise_min, args.noise_max) == (100, 0.1, 1e-4, 0.02)
    assert (args.eval_every, args.patience, args.history_num_per_term) == (5, 20, 10)


def test_all_six_data_sets_have_presets_that_build_a_diffusion():
    variant = variant_of("DiffRec")
    published = variant.published_presets()
    assert set(published) == {
        f"{data}_{kind}" for data in ("amazon-book", "yelp", "ml-1m") for kind in ("clean", "noisy")
    }
    for name, preset in variant.known_presets().items():
        settings, _ = commands.parse(variant, ["--preset", name])
        assert DiffRec(30, settings).diffusion.steps == preset.get("steps", 100)
    assert all(paper_figures("DiffRec", name)["recall@20"] > 0 for name in published)


def test_own_data_start_from_the_preset_for_them():
    variant = variant_of("DiffRec")
    presets = variant.known_presets()
    assert "like" not in presets["own_data"]
    assert presets["own_data"]["dims"] == [200, 600]
    settings, options = commands.parse(variant, ["--dataset", "mine", "--lr", "1e-4"])
    assert (options.preset, settings.steps, settings.lr) == (
        "own_data", presets["own_data"]["steps"], 1e-4
    )  # fmt: skip
    _, options = commands.parse(variant, ["--dataset", "ml-1m_clean"])
    assert options.preset == "ml-1m_clean"
    settings, options = commands.parse(variant, ["--dataset", "mine", "--preset", "none"])
    assert (options.preset, settings.steps) == ("none", 100)
    settings, options = commands.parse(variant_of("L-DiffRec"), ["--dataset", "mine"])
    assert (options.preset, settings.n_cate) == ("own_data", 1)
    _, options = commands.parse(variant_of("MultiVAE"), ["--dataset", "mine"])
    assert options.preset == "none"


def test_a_preset_like_one_that_is_not_there(tmp_path):
    (tmp_path / "presets.toml").write_text('[mine]\nlike = "yours"\nsteps = 3\n')
    variant = dataclasses.replace(variant_of("DiffRec"), presets=tmp_path / "presets.toml")
    with pytest.raises(InputError, match="preset mine of DiffRec is like yours, which is none"):
        variant.preset("mine")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--preset", "nonsense"], "no preset nonsense of DiffRec: choose one of"),
        (["--lr", "0"], "lr must be greater than 0, got '0'"),
        (["--batch_size", "0"], "batch_size"),
        (["--dims", "[0]"], "dims must be greater than or equal to 1"),
        (["--dims", "[99999999999999999999]"], "dims"),
        (["--seed", "-1"], "seed"),
        (["--mean_type", "v"], "mean_type must be 'x0' or 'eps', got 'v'"),
        (["--reweight", "maybe"], "0, 1, true or false"),
        (["--unheard_of", "1"], "unheard_of"),
        (["--topN", "[]"], "topN"),
        (["--topN", "[5]"], "select_by"),
        (["--patience", "5"], "patience 5 must be more than eval_every 5"),
        (["--seed", str(2**32)], "seed must be less than 4294967296"),
        (["--lr", "inf"], "lr must be a finite number"),
        (["--metrics", "recall", "clicks"], "metrics must be"),
        (["--dataset", "/somewhere/ml-1m_clean"], "give its folder .* as data_path"),
    ],
)
def test_wrong_flags(argv, words):
    def call():
        settings, options = commands.parse(variant_of("DiffRec"), argv)
        commands.load(variant_of("DiffRec"), settings, options)

    with pytest.raises(InputError, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_another_metric_can_select():
    assert parse("--topN", "[5]", "--select_by", "ndcg@5").select_by == "ndcg@5"
    args = parse("--metrics", "recall,map", "--select_by", "map@10")
    assert args.metrics == ("recall", "map")


# What is made of the definitions


def test_a_setting_of_a_variant_is_defined_once():
    for variant in REGISTRY.values():
        model, training = variant.model.Settings.names(), variant.model.Training.names()
        assert not model & training, variant.name
        assert not (model | training) & variant.options.names(), variant.name
        assert not (model | training) & variant.inference_options.names(), variant.name


def test_every_flag_takes_its_own_default():
    """What is written for a default means the default again."""
    for variant in REGISTRY.values():
        defaults = variant.settings().dump()
        settings, _ = commands.parse(variant, ["--preset", "none", *flags_of(defaults)])
        assert settings.dump() == defaults, variant.name


def test_every_setting_has_a_help_that_stands_alone():
    for variant in REGISTRY.values():
        for kind in (variant.settings, variant.options, variant.inference_options):
            for name, field in kind.model_fields.items():
                assert len(field.description or "") > 1, (variant.name, name)


def test_choices_are_what_the_models_know():
    fields = variant_of("DiffRec").settings.model_fields
    assert choices_of(fields["mean_type"].annotation) == ("x0", "eps")


@pytest.mark.parametrize(
    ("part", "variant", "names"),
    [
        (GaussianDiffusion, "DiffRec", {}),
        (DNN, "DiffRec", {"mlp_act_func": "act_func"}),
        (ImportanceSampler, "DiffRec", {}),
        (ClusteredVAE, "L-DiffRec", {"vae_dropout": "dropout"}),
    ],
)
def test_the_models_own_defaults_are_those_of_the_settings(part, variant, names):
    """They can be built without settings; what they then are must not differ."""
    fields = variant_of(variant).settings.model_fields
    settings = {theirs: ours for ours, theirs in names.items()}
    for name, parameter in inspect.signature(part).parameters.items():
        if parameter.default is not parameter.empty:
            assert parameter.default == fields[settings.get(name, name)].default, name


def test_options_are_no_settings():
    """No file can say where something is written."""
    for variant in REGISTRY.values():
        with pytest.raises(InputError, match="there is no setting result_json"):
            variant.settings.of({"result_json": "x"})
    assert {"save_path", "result_json", "resume", "data_path", "cuda"} <= RunOptions.names()
