import json
from dataclasses import replace

import pytest
import yaml
from sample_runs import make_run

from common.errors import InputError
from envs.settings import DataConfig
from experiments.command_line import exit_code
from experiments.config import run as config_verb
from experiments.runs.run import Run, find_run
from experiments.settings.command import PRESETS, preset_names
from experiments.settings.fields import settings_of, value_of
from experiments.settings.run_config import RunConfig, config_from_json, config_to_json, floor_spec
from experiments.settings.table import BEGIN, DOCS, END, render_settings, write_docs

SEARCH = ["--search.num-trials", "4"]
PBT = [*SEARCH, "--search.scheduler", "pbt"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(path, **settings):
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def test_no_arguments_give_the_defaults():
    found = find_run([])
    config, by_hand = found.config, found.by_hand
    assert config == replace(RunConfig(), name="default-qmix")
    assert by_hand == {}


def test_flat_and_dotted_flags_are_read_and_reported():
    argv = ["--algo", "vdn", "--capital", "1e7", "--qmix.lr=0.1", "--search.num-trials", "3"]
    found = find_run(argv)
    config, by_hand = found.config, found.by_hand
    assert (config.algo, config.floor.capital, config.qmix.lr, config.search.num_trials) == ("vdn", 1e7, 0.1, 3)
    assert by_hand == {"algo": "vdn", "floor.capital": 1e7, "qmix.lr": 0.1, "search.num_trials": 3}


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["--network", "gru"], "qmix.network"),
        (["--network=transformer", "--algo", "ippo"], "mappo.network"),
        (["--algo", "maddpg", "--maddpg.network", "gru"], "maddpg.network"),
        (["--algo=ppo", "--network", "transformer", "--ppo.d-model", "32"], "ppo.network"),
    ],
)
def test_network_is_that_of_the_algorithm_that_is_asked_for(argv, name):
    found = find_run(argv)
    config, by_hand = found.config, found.by_hand
    wanted = next(word for word in ("gru", "transformer") if any(word in given for given in argv))
    assert value_of(config, name) == by_hand[name] == wanted
    others = [f"{group}.network" for group in ("qmix", "mappo", "maddpg", "ppo") if f"{group}.network" != name]
    assert {value_of(config, other) for other in others} == {"mlp"}


def test_network_is_that_of_the_algorithm_of_a_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("algo: maddpg\n")
    config = find_run(["--config", str(path), "--network", "gru"]).config
    assert (config.algo, config.maddpg.network, config.qmix.network) == ("maddpg", "gru", "mlp")


@pytest.mark.parametrize("spelling", [["A", "B"], ["A,B"], ["A,", "B"]])
def test_lists_may_be_divided_by_spaces_or_commas(spelling):
    config = find_run(["--data.path", "x.csv", "--data.assets", *spelling]).config
    assert config.data.assets == ("A", "B")


def test_negative_numbers_are_values():
    config = find_run(["--desk.ladder", "-1", "-0.5", "0", "1"]).config
    assert config.desk.ladder == (-1.0, -0.5, 0.0, 1.0)


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--qmix.no-double-q"], False),
        (["--qmix.double-q", "False"], False),
        (["--qmix.double-q"], True),
        (["--qmix.double_q", "true"], True),
    ],
)
def test_switches(argv, value):
    found = find_run(argv)
    config, by_hand = found.config, found.by_hand
    assert config.qmix.double_q is value
    assert by_hand == {"qmix.double_q": value}


def test_a_flag_can_be_set_back_to_none(tmp_path):
    path = write(tmp_path / "mine.yaml", desk={"limit": 0.5})
    assert find_run(["--config", path]).config.desk.limit == 0.5
    assert find_run(["--config", path, "--desk.limit", "None"]).config.desk.limit is None


def test_flag_given_twice_counts_the_last_time():
    assert find_run(["--seed", "1", "--seed", "2"]).config.seed == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--qmix.lrr", "1"], r"^unknown flag --qmix\.lrr \(did you mean '--qmix\.lr'\?\)"),
        (["--capitall", "1"], r"^unknown flag --capitall \(did you mean '--capital'\?\)"),
        (["--num-trials", "1"], r"^unknown flag --num-trials \(did you mean '--search\.num-trials'\?\)"),
        (["--algo", "qmi"], r"^--algo is 'qmi', which does not exist \(did you mean 'qmix'\?\)$"),
        (
            ["--algo", "sarsa"],
            r"^--algo is 'sarsa', which does not exist: choose one of dqn, impala, appo, indq, maddpg, mappo, ippo, "
            r"ppo, qmix, vdn, sac, tqc$",
        ),
        (
            ["--algo=iql", "--qmix.num-quantiles", "3"],
            r"^--algo iql is called indq now: give --algo indq, and --indq\.\*",
        ),
        (
            ["--algo", "indq", "--qmix.lr", "1"],
            r"^--qmix\.lr has no effect on --algo indq, which uses the .* of indq\.\*$",
        ),
        (["--algo", "sac", "--network", "gru"], r"^--network has no effect on --algo sac, which leaves no choice: "),
        (["--network", "lstm"], r"^--qmix\.network is 'lstm', which does not exist: choose one of mlp, gru, transf"),
        (["--qmix.d-model", "8"], r"^--qmix\.d-model has no effect on --network mlp, only on transformer$"),
        (["--qmix.num-heads", "8"], r"^--qmix\.num-heads has no effect where nothing attends"),
        (
            ["--network", "transformer", "--qmix.d-model", "30"],
            r"^d_model is 30, which num_heads 4 does not divide: each head",
        ),
        (["--capital", "0"], r"^--floor\.capital is '0': input should be greater than 0$"),
        (["--capital", "lots"], r"^--floor\.capital is 'lots': .*valid number"),
        (["--episodes", "1.5"], r"^--episodes is '1\.5': .*valid integer"),
        (["--episodes"], r"^--episodes needs a value$"),
        (["--episodes", "1", "2"], r"^--episodes takes one value, not 2: '1 2'$"),
        (["dow"], r"^unexpected argument 'dow'"),
        (["--skip-training", "maybe"], r"--skip-training is a switch"),
        (["--preset", "dmo"], r"^--preset dmo does not exist \(did you mean 'demo'\?\)$"),
        (["--config", "nowhere.yaml"], r"^nowhere\.yaml does not exist$"),
        (["--load-model", "nowhere"], r"^nowhere does not exist"),
        (["--resume", "nowhere"], r"^nowhere does not exist"),
        (["--algo", "ppo", "--qmix.lr", "1"], r"^--qmix\.lr has no effect on --algo ppo"),
        (["--data.path", "x.csv", "--data.synthetic.seed", "1"], r"^--data\.synthetic\.seed has no effect"),
        (["--preset", "\n"], r"^--preset \\n does not exist: choose one of demo, "),
        (["--desk.num-agents", "1000000000"], r"^--desk\.num-agents is '1000000000'"),
        (["--config", "0\n"], r"^0\\n does not exist"),
        (["--data.train", "4.5e305"], r"^--data\.train is '4\.5e305'"),
        (["--algo", "sac", "--sac.hidden", "0"], r"^--sac\.hidden is '0'"),
        (["--data.synthetic.dollar-volume-usd", "1e306"], r"^--data\.synthetic\.dollar-volume-usd is '1e306'"),
        (["--data.adjust", "total"], r"^--data\.adjust has no effect on the built-in market: give --data\.path"),
        (["--search.objective", "calmar"], r"^--search\.objective has no effect without a search"),
        (["--search.scheduler", "pbt"], r"^--search\.scheduler has no effect without a search"),
        (
            [*SEARCH, "--search.perturbation-interval", "5"],
            r"perturbation-interval has no effect on --search.scheduler as",
        ),
        ([*SEARCH, "--search.quantile-fraction", "0.5"], r"^--search\.quantile-fraction has no effect .*only on pbt"),
        ([*PBT, "--search.grace-episodes", "5"], r"^--search\.grace-episodes has no effect on .* pbt, only on asha"),
        (
            [*SEARCH, "--search.scheduler", "none", "--search.reduction-factor", "3"],
            r"reduction-factor has no effect on",
        ),
        (
            ["--search.num-trials", "1", "--search.scheduler", "pbt"],
            r"^--search\.num-trials is 1: .* needs a population of 2 or more",
        ),
        (
            [*PBT, "--episodes", "50"],
            r"^--search\.perturbation-interval is 50, but trials end at --episodes 50: lower it",
        ),
        (
            [*PBT, "--search.quantile-fraction", "0.6"],
            r"^--search\.quantile-fraction is '0\.6': .*less than or equal to 0\.5",
        ),
        (["--algo", "dqn", "--runner", "team"], r"^--runner team does not exist for --algo dqn"),
    ],
)
def test_mistake_is_named_in_one_line(argv, message):
    with pytest.raises(InputError, match=message) as caught:
        find_run(argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("qmix: {lrr: 1}", r"unknown setting 'qmix\.lrr' \(did you mean 'qmix\.lr'\?\)"),
        ("qmixx: {lr: 1}", r"unknown setting 'qmixx'"),
        ("qmix: 3", r"qmix is a group"),
        ("seed: {deep: 1}", r"seed is "),
        ("episodes: many", r"episodes is 'many'"),
        ("seed: 1\nseed: 2", r"not valid YAML at line 2: 'seed' stands twice"),
        ("seed: [1", r"not valid YAML"),
        ("- seed", r"must hold settings"),
        ("3: 1", r"not a setting's name"),
    ],
)
def test_mistake_in_a_file_is_named_with_the_file(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"mine\.yaml.*{message}") as caught:
        find_run(["--config", str(path)])
    assert "\n" not in str(caught.value)


def test_file_of_settings_takes_hyphens_flat_names_and_exponents(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("capital: 5e6\ncheckpoint-interval: 7\nqmix:\n  lr: 1e-3\n")
    found = find_run(["--config", str(path)])
    config, by_hand = found.config, found.by_hand
    assert (config.floor.capital, config.checkpoint_interval, config.qmix.lr) == (5e6, 7, 1e-3)
    assert by_hand == {
        "floor.capital": 5e6,
        "checkpoint_interval": 7,
        "qmix.lr": 1e-3,
        "config": str(path),
    }


def test_layers_win_in_the_stated_order(tmp_path):
    make_run(
        tmp_path / "results" / "dow", {"preset": "dow", "seed": 3, "keep": 3, "episodes": 30, "floor": {"capital": 3.0}}
    )
    file = write(tmp_path / "mine.yaml", keep=4, episodes=40)
    found = find_run(["--preset", "dow", "--name", "dow", "--config", file, "--episodes", "50"])
    config, by_hand = found.config, found.by_hand
    assert config.floor.capital == 3.0  # the run folder over the preset
    assert config.seed == 3  # the run folder over the defaults
    assert config.keep == 4  # the file over the run folder
    assert config.episodes == 50  # the flag over all
    assert by_hand == {"preset": "dow", "name": "dow", "config": file, "keep": 4, "episodes": 50}


def test_name_alone_reads_the_rest_from_the_run_folder(tmp_path):
    first = make_run(
        tmp_path / "results" / "dow", {"seed": 7, "qmix": {"lr": 0.25}, "data": {"synthetic": {"seed": 4}}}
    )
    found = find_run(["--name", "dow", "--episodes", "800"])
    config, by_hand = found.config, found.by_hand
    assert config == replace(first, episodes=800, storage="results")
    assert by_hand == {"name": "dow", "episodes": 800}


def test_settings_of_one_command_are_not_read_back(tmp_path):
    make_run(tmp_path / "results" / "dow", {"json": "old.json", "resume": "never", "skip_training": True})
    config = find_run(["--name", "dow"]).config
    assert (config.json, config.resume, config.skip_training) == (None, "auto", False)


def test_resume_never_does_not_read_the_run_folder(tmp_path):
    make_run(tmp_path / "results" / "dow", {"seed": 7})
    assert find_run(["--name", "dow", "--resume", "never"]).config.seed == 0


def test_resume_from_a_checkpoint_reads_its_run(tmp_path):
    make_run(tmp_path / "results" / "dow", {"seed": 7})
    config = find_run(["--resume", "results/dow/checkpoint_000001"]).config
    assert (config.seed, config.name) == (7, "dow")
    assert Run.of(config).folder.resolve() == (tmp_path / "results" / "dow").resolve()


def test_loaded_weights_bring_their_market_desk_and_algorithm_but_no_more(tmp_path):
    make_run(
        tmp_path / "results" / "dow",
        {"algo": "vdn", "seed": 7, "episodes": 30, "desk": {"ladder": [-1, 0, 1]}, "floor": {"capital": 3.0}},
    )
    config = find_run(["--load-model", "results/dow", "--name", "dow2", "--episodes", "200"]).config
    assert (config.algo, config.desk.ladder, config.floor.capital) == ("vdn", (-1.0, 0.0, 1.0), 3.0)
    assert (config.name, config.seed, config.episodes) == ("dow2", 0, 200)


def test_loaded_weights_without_a_name_do_not_meet_another_run(tmp_path):
    make_run(tmp_path / "results" / "dow", {"seed": 7})
    make_run(tmp_path / "results" / "default-qmix", {"seed": 8, "desk": {"ladder": [-1, 0, 1]}})
    config = find_run(["--load-model", "results/dow"]).config
    assert (config.name, config.desk.ladder) == ("from-dow", RunConfig().desk.ladder)


def test_default_name_tells_presets_and_algorithms_apart():
    names = {find_run(argv).config.name for argv in ([], ["--algo", "ppo"], ["--preset", "demo"], ["--preset", "dow"])}
    assert len(names) == 4


def test_damaged_run_folder_is_refused(tmp_path):
    folder = tmp_path / "results" / "dow"
    make_run(folder)
    (folder / "config.json").write_text('{"format": 1')
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        find_run(["--name", "dow"])
    (folder / "config.json").write_text('{"format": 1, "config": {"colour": 1}}')
    with pytest.raises(InputError, match=r"config\.json: unknown setting 'colour'"):
        find_run(["--name", "dow"])


def test_config_survives_json_exactly():
    argv = [
        "--qmix.lr",
        "0.1234567890123456789",
        "--desk.ladder",
        "-1",
        "0",
        "0.3333333333333333",
        "--data.path",
        "x.csv",
    ]
    config = find_run(argv).config
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config


def test_unknown_key_in_json_is_refused():
    with pytest.raises(InputError, match=r"there: unknown setting 'qmix\.lrr' \(did you mean 'qmix\.lr'\?\)"):
        config_from_json({"qmix": {"lrr": 1}}, where="there")


def test_floor_spec_and_record_hold_absolute_paths(tmp_path):
    config = find_run(["--data.path", "x.csv", "--data.universe", "u.csv"]).config
    for data in (config.data, floor_spec(RunConfig(data=DataConfig(path="x.csv", universe="u.csv"))).data):
        assert (data.path, data.universe) == (str(tmp_path / "x.csv"), str(tmp_path / "u.csv"))


def test_floor_spec_holds_absolute_paths(tmp_path):
    config = find_run(["--data.path", "x.csv", "--floor.costs.table", "costs.csv"]).config
    assert config.floor.costs.table == str(tmp_path / "costs.csv")
    spec = floor_spec(config)
    assert (spec.data.path, spec.floor.costs.table) == (str(tmp_path / "x.csv"), str(tmp_path / "costs.csv"))


def test_presets_of_the_issue_exist():
    assert {"demo", "desk", "roles", "rivals", "dow", "gpu", "pymarl2", "finsense"} <= set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_preset_holds_differences_only(name):
    values = yaml.safe_load((PRESETS / f"{name}.yaml").read_text())
    config = find_run(["--preset", name]).config
    assert config.preset == name
    for dotted, setting in settings_of(RunConfig).items():
        stated = values
        for part in dotted.split("."):
            stated = stated.get(part) if isinstance(stated, dict) else None
        if stated is not None and dotted != "desk.preset":
            assert stated != setting.default, f"{dotted} repeats its default"


def test_every_setting_has_help():
    assert [name for name, setting in settings_of(RunConfig).items() if not setting.help] == []


def test_table_of_settings_in_the_docs_is_current(tmp_path):
    text = DOCS.read_text()
    assert text.partition(BEGIN)[2].partition(END)[0].strip() == render_settings().strip()
    copy = tmp_path / "configuration.md"
    copy.write_text(text.replace("Adam step size", "Something else"))
    assert write_docs(copy)
    assert copy.read_text() == text
    assert not write_docs(copy)


def test_verb_prints_the_table_and_gives_it_as_json(tmp_path, capsys):
    assert config_verb(["--json", "settings.json"]) == 0
    assert capsys.readouterr().out == render_settings() + "\n"
    listed = json.loads((tmp_path / "settings.json").read_text())["settings"]
    assert [item["name"] for item in listed] == list(settings_of(RunConfig))
    found = {item["name"]: item for item in listed}
    assert found["qmix.hidden"] == {
        "name": "qmix.hidden",
        "flag": "--qmix.hidden",
        "type": "several of: int",
        "default": [64, 64],
        "description": "Widths of the layers of an mlp or a gru, whose state has the last width.",
    }
    assert (found["name"]["default"], found["name"]["type"]) == (None, "text | None")


def test_verb_refuses_json_that_could_not_be_written(tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    assert exit_code(config_verb, ["--json", "folder"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--json is folder, which is a folder" in captured.err
