"""The verdicts of otr's benchmarks, on scores made by hand; that the tiers are sound; and the smallest of them."""

import json
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import otr, otr_device, otr_labels

HOPPER, CHEETAH = otr.REPORTED, otr.CLAIMED


def rows(scores, dataset=CHEETAH):
    """Rows of one training from arm -> scores."""
    job = otr.Job(dataset, 1, (), ())
    arms = [
        SimpleNamespace(
            learner=name.split()[0], labels="oracle" if name == "bc10" else name.partition(" ")[2],
            scores=np.array(values, float), returns=np.array(values, float), updates=np.array([10]),
            curve=np.array([values], float),
        )
        for name, values in scores.items()
    ]  # fmt: skip
    return otr.with_shares(otr.rows_of(job, arms))


GOOD = {"bc": [40, 42, 41], "iql oracle": [80, 82, 81], "iql otr": [78, 80, 79], "iql constant": [50, 52, 51]}


def failed(**changes):
    claims = otr.verdicts(rows({**GOOD, **{name.replace("_", " "): values for name, values in changes.items()}}))
    assert len(claims) == 3
    return [claim["claim"] for claim in claims if not claim["holds"]]


def test_the_claims_hold_where_they_should_and_fail_where_they_should():
    above = [f"OTR above {name} by more than the seeds' spread" for name in ("BC", "IQL on a constant reward")]
    assert failed() == []
    assert failed(iql_oracle=[90, 91, 92]) == ["OTR at least 0.9 of the oracle"]
    assert failed(iql_constant=[77, 79, 78.9]) == above[1:]  # above in every seed, but by less than a deviation
    assert failed(bc=[40, 42, 81]) == above[:1]  # below it in one seed of three
    assert failed(bc=[40, 42, 60]) == []
    assert failed(iql_otr=[0, 150, 79]) == above  # the mean alone is high enough
    assert len(failed(iql_otr=[-1, -2, -1], iql_oracle=[-1, -2, -1])) == 3  # nothing was learned: no share to speak of


def test_claims_need_their_arms():
    assert otr.verdicts(rows(GOOD, HOPPER)) == []
    assert otr.verdicts(rows({"iql otr": [1, 2]})) == []
    assert otr.survival_sentence(rows(GOOD)) is None


def test_the_survival_bonus_is_told_as_it_is():
    said = otr.survival_sentence(rows({"iql otr": [60, 70, 65], "iql constant": [66, 74, 70]}, HOPPER))
    assert "the constant reward is above OTR" in said
    assert "intervals overlap" in said
    assert "OTR less constant, seed by seed: -5.0 [-6.0, -4.0]" in said
    said = otr.survival_sentence(rows({"iql otr": [60, 70, 65], "iql constant": [20, 30, 25]}, HOPPER))
    assert "OTR is above the constant reward" in said
    assert "do not overlap" in said


def test_shares_are_of_the_same_learners_oracle():
    found = {
        row["arm"]: row["share_of_oracle"] for row in rows({**GOOD, "td3bc oracle": [20, 20], "td3bc otr": [5, 5]})
    }
    assert found["td3bc otr"] == 0.25
    assert found["iql otr"] == pytest.approx(79 / 81)
    assert found["bc"] == pytest.approx(41 / 81)
    assert {row["share_of_oracle"] for row in rows({"iql oracle": [-1, -1], "iql otr": [5, 5]})} == {None}


def test_the_published_columns_add_up_to_the_printed_totals():
    totals = {"bc": 466.7, "bc10": 666.2, "iql oracle": 692.4, "iql oril": 588.5, "iql uds": 495.1, "iql otr": 685.6,
              "iql otr K=10": 694.2, "iql seabo": 707.6, "td3bc otr": 656.9}  # fmt: skip
    for arm, total in totals.items():
        values = [float(row[arm].split("±")[0]) for row in otr.PUBLISHED.values()]
        assert sum(values) == pytest.approx(total, abs=1e-6), arm


def test_what_no_demonstration_changes_is_trained_once():
    jobs = otr.jobs_of(otr.TIERS["gpu"], [CHEETAH])
    assert [job.demos for job in jobs] == [1, 10]
    assert {"oracle", "constant"} <= set(jobs[0].labels)
    assert not {"oracle", "constant"} & set(jobs[1].labels)
    assert jobs[1].learners == ("bc10-labels", "iql", "td3bc")
    assert (jobs[0].env_id, jobs[0].quality) == ("HalfCheetah-v5", "medium-expert")
    assert len(otr.jobs_of(otr.TIERS["gpu"])) == 18
    assert otr.arm_name("iql", "otr", 10) == "iql otr K=10"


@pytest.mark.parametrize("tier", otr.TIERS)
def test_every_tier_has_the_arms_of_its_claims(tier):
    job = otr.jobs_of(otr.TIERS[tier])[0]
    assert {"oracle", "otr", "constant"} <= set(job.labels)
    assert {"bc", "iql"} <= set(job.learners)


def dataset(file, env_id, quality, steps):
    """Write four steps that were made as `steps` of a quality, in two parts."""
    from paperloop_data import EpisodeDataset

    halves = [{"steps": steps // 2}, {"steps": steps - steps // 2}]
    EpisodeDataset(
        observations=np.zeros((4, 2)), actions=np.zeros((4, 1)), rewards=np.zeros(4), terminated=np.zeros(4, bool),
        truncated=np.zeros(4, bool), attributes={"env_id": env_id, "quality": quality},
        provenance=({"action": "make", "parts": halves},),
    ).save(file)  # fmt: skip
    return file


@pytest.mark.parametrize(
    ("about", "fits"),
    [
        (("HalfCheetah-v5", "medium-expert", 3), True),  # the last episode is always finished
        (("HalfCheetah-v5", "medium-expert", 4), False),
        (("HalfCheetah-v5", "medium-expert", 2), False),
        (("HalfCheetah-v5", "medium", 3), False),
        (("Hopper-v5", "medium-expert", 3), False),
    ],
)
def test_data_of_another_task_or_size_is_refused(tmp_path, about, fits):
    file = dataset(tmp_path / f"{CHEETAH}.hdf5", *about)
    job, cost = otr.jobs_of(otr.TIERS["cpu"])[0], otr.Cost(tmp_path / "cost.json")
    if fits:
        assert otr.make_data(job, 3, tmp_path, 1, cost) == file
    else:
        with pytest.raises(SystemExit, match=r"holds 4 steps and was made as .*; remove it, or choose another --data"):
            otr.make_data(job, 3, tmp_path, 1, cost)
    assert cost.seconds == {}


def test_a_command_that_fails_is_said_with_its_log_and_counted(tmp_path):
    cost = otr.Cost(tmp_path / "cost.json")
    with pytest.raises(SystemExit, match=r"otr nothing failed \(exit status 2\).*(?s:.*)no command"):
        otr.command("otr", "nothing", log=tmp_path / "log", cost=cost, name="a")
    failed = dict(cost.seconds["a"])
    assert failed["cpu_s"] > 0
    assert failed["failed"] == 1
    otr.command("otr", "labellers", log=tmp_path / "log", cost=cost, name="a")
    otr.command("otr", "labellers", log=tmp_path / "log", cost=cost, name="b")
    again = otr.Cost(tmp_path / "cost.json")
    assert again.seconds["a"]["cpu_s"] > failed["cpu_s"]
    assert again.seconds["a"]["failed"] == 1
    assert again.seconds["b"].keys() == {"wall_s", "cpu_s"}
    assert again.cpu_s == pytest.approx(sum(row["cpu_s"] for row in again.seconds.values()))


def test_a_part_of_a_tier_has_a_name_of_its_own():
    assert otr.result_name("cpu", [], 0) == "otr-cpu"
    assert otr.result_name("cpu", [HOPPER], 0) == "otr-cpu-hopper-medium-replay"
    assert otr.result_name("cpu", [], 3) == "otr-cpu-seed3"
    assert otr.result_name("gpu", ["walker2d-medium", CHEETAH], 1) == (
        "otr-gpu-walker2d-medium-halfcheetah-medium-expert-seed1"
    )


@pytest.fixture
def without_training(tmp_path, monkeypatch):
    """Call the cpu tier with arms made by hand in place of data and training."""

    def arms(folder):
        made = GOOD if CHEETAH in str(folder) else {"iql otr": [60, 70, 65], "iql constant": [20, 30, 25]}
        return [
            SimpleNamespace(
                learner=name.split()[0], labels=name.partition(" ")[2], scores=np.array(values, float),
                returns=np.array(values, float), updates=np.array([10]), curve=np.array([values], float),
            )
            for name, values in made.items()
        ]  # fmt: skip

    about = {"steps": 4, "episodes": 1, "mean": 0.0, "best": 1.0}
    monkeypatch.setattr(otr, "make_data", lambda job, *rest: tmp_path / f"{job.dataset}.hdf5")
    monkeypatch.setattr(otr, "train", lambda *rest: None)
    monkeypatch.setattr(otr, "describe", lambda files: {file.stem: about for file in files})
    monkeypatch.setattr("otr.training.report.read_arms", arms)
    return lambda *given: otr.main(["--out", str(tmp_path), "--results", str(tmp_path), *given])


def test_a_call_without_claims_is_no_success(without_training, tmp_path, capsys):
    assert without_training() == 0
    whole = (tmp_path / "otr-cpu.json").read_bytes()
    assert len(json.loads(whole)["claims"]) == 3
    assert "No claim was tested" not in capsys.readouterr().out
    assert without_training("--only", HOPPER) == 1
    assert "No claim was tested" in capsys.readouterr().out
    assert json.loads((tmp_path / f"otr-cpu-{HOPPER}.json").read_text())["claims"] == []
    assert without_training("--only", CHEETAH, "--seed", "2") == 0
    assert (tmp_path / f"otr-cpu-{CHEETAH}-seed2.png").exists()
    assert (tmp_path / "otr-cpu.json").read_bytes() == whole


@pytest.mark.slow
@pytest.mark.jax
def test_the_smoke_tier_makes_data_trains_and_reports(tmp_path, capsys):
    arguments = ["--tier", "smoke", "--out", str(tmp_path / "out"), "--results", str(tmp_path), "--workers", "1"]
    assert otr.main(arguments) == 0
    result = json.loads((tmp_path / "otr-smoke.json").read_text())
    tier = otr.TIERS["smoke"]
    arms = [row["arm"] for row in result["rows"] if row["dataset"] == CHEETAH]
    assert sorted(arms) == sorted(
        ["bc", "bc10", *(f"{kind} {name}" for kind in ("bc10-labels", "iql") for name in tier.labels)]
    )
    assert len(result["rows"]) == 2 * len(arms)
    for row in result["rows"]:
        assert len(row["scores"]) == tier.seeds
        assert row["low"] <= row["mean"] <= row["high"]
        assert np.shape(row["curve"]) == (len(row["updates"]), tier.seeds)
        assert row["updates"][-1] == tier.updates
    assert len(result["claims"]) == 3
    assert "intervals" in result["constant_on_hopper"]
    assert result["cpu_s_of_commands_that_ended"] > 0
    assert (tmp_path / "otr-smoke.png").stat().st_size > 0
    text = capsys.readouterr().out
    assert "89.6±3.0" in text  # what is published stands next to ours
    (tmp_path / "otr-smoke.json").unlink()
    assert otr.main(arguments) == 0  # reads what is finished
    assert json.loads((tmp_path / "otr-smoke.json").read_text())["rows"] == result["rows"]


@pytest.mark.slow
@pytest.mark.jax
def test_the_speed_benchmark_checks_that_results_are_equal(tmp_path):
    arguments = ["--pairs", "2", "--length", "40", "--steps", "10000", "--rounds", "1", "--part", "solver"]
    otr_labels.main([*arguments, "--part", "file", "--format", "hdf5", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "otr_labels.json").read_text())
    assert result["solver"]["checks"]["equal"]
    assert result["file"]["checks"]["equal"]
    for trials in result["file"]["trials"].values():
        assert trials[0]["work"] == 10_000
        assert trials[0]["parts"].keys() == {"read", "label", "write"}


@pytest.mark.jax
def test_the_device_benchmark_compares_with_the_floor_and_with_the_compiled_path(tmp_path):
    otr_device.main(["--steps", "120", "--length", "40", "--pairs", "2", "--rounds", "1", "--out", str(tmp_path)])
    (file,) = tmp_path.glob("otr_device-*.json")
    result = json.loads(file.read_text())
    assert result["episodes"] == 3
    assert result["checks"]["equal"]
    assert result["checks"]["float32"] < result["checks"]["bfloat16"]  # they are two kernels
    float32, bfloat16 = (result["measured"][kernel]["floor_s"] for kernel in otr_device.KERNELS)
    assert float32 == pytest.approx(2 * bfloat16)
    # 100 iterations x 2 passes x 3 kernels of 40 x 40 cells of 4 bytes
    assert float32 * result["bandwidth_bytes_per_s"] == pytest.approx(100 * 2 * 3 * 40 * 40 * 4)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")
def test_labelling_that_was_killed_gives_the_same_bytes(tmp_path):
    otr_labels.main(["--part", "kill", "--steps", "16000", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "otr_labels.json").read_text())["kill"]
    assert result["sha256"][0] == result["sha256"][1]
    assert result["chunks"] == 8
    assert result["kills"][0]["chunks_found"] >= 2
    found = [kill["chunks_found"] for kill in result["kills"]]
    assert found == sorted(found)
    assert result["last_run"]["found"] == found[-1]
