"""Every number of the records and the tables against one computed again with numpy from the predictions and the flags
of the attack, and the predictions against those of the saved models in Python."""

import itertools
import math

import numpy as np
from toy import ATTACK, CELLS, MAIN, NAMES, SIZES, CliTest, attack_measures, cell, main, measures, numbers, predict
from toy import record, run_harness, state_of, table


def setUpModule():
    run_harness("config.json", "--results", MAIN)


def run_measures(identity, results=MAIN):
    """Every metric of one run, from the files beside its record and the data alone."""
    values = {}
    for file, suffix in (("predictions.csv", ""), ("predictions_repair.csv", "_REPAIR")):
        of = numbers(cell(identity, results) / file)
        values |= measures(of["label"], of["original"], of["fixed"], suffix)
    return values | attack_measures(numbers(cell(identity, results) / "attack.csv"))


def joint_measures(approach):
    """The attack's metrics of both runs on the images attacked in both."""
    flags = [numbers(cell(f"toy/{approach}/{run}") / "attack.csv") for run in (1, 2)]
    common = set(flags[0]["image"]) & set(flags[1]["image"])
    return [attack_measures({name: values[[image in common for image in one["image"]]]
                             for name, values in one.items()}) for one in flags]


class NumbersTest(CliTest):
    def test_predictions_are_those_of_the_models(self):
        for identity in CELLS:
            approach, run = identity.split("/")[1:]
            model = ("one.pt", "two.pt")[int(run) - 1] if "published" in approach else cell(identity) / "fixed.pt"
            for split, file in (("test", "predictions.csv"), ("repair", "predictions_repair.csv")):
                found = numbers(cell(identity) / file)
                self.assertEqual(list(found), ["index", "label", "original", "fixed"])
                self.assertEqual(found["index"].tolist(), list(range(SIZES[split])))
                self.assertEqual(found["original"].tolist(), predict("toy.pt", split).tolist())
                self.assertEqual(found["fixed"].tolist(), predict(model, split).tolist(), identity)
        self.assertEqual(set(state_of(cell("toy/AR/1") / "fixed.pt")), set(state_of("toy.pt")))

    def test_every_value_of_every_run(self):
        expected = {identity: run_measures(identity) for identity in CELLS}
        self.assertGreater(expected["toy/AR/1"]["REPAIRED_REPAIR"], 0)
        self.assertGreater(expected["toy/published:AP/1"]["BROKEN"], 0)
        for identity in CELLS:
            recorded = {one["name"]: one["value"] for one in record(identity)["metrics"]}
            for metric, value in expected[identity].items():
                self.assert_close(recorded[metric], value, f"{identity} {metric}")
        seen = set()
        for row in table("runs"):
            identity = f"toy/{row['approach']}/{row['run']}"
            self.assertEqual((int(row["seed"]), row["status"], row["device"]),
                             (record(identity)["cell"]["seed"], "ok", record(identity)["machine"]["device"]))
            if row["metric"].startswith("TIME"):
                phase = record(identity)["phases"].get(row["metric"].removeprefix("TIME").removeprefix("_") or "fix")
                self.assert_close(row["value"], phase, f"{identity} {row['metric']}")
            elif row["metric"] in expected[identity]:
                self.assert_close(row["value"], expected[identity][row["metric"]], f"{identity} {row['metric']}")
                seen.add((identity, row["metric"]))
        self.assertEqual(seen, {(identity, metric) for identity in CELLS for metric in expected[identity]})

    def test_nothing_changes_without_a_fix(self):
        for run in (1, 2):
            values = run_measures(f"toy/NONE/{run}")
            for metric in ("RR", "NFR", "REPAIRED", "BROKEN", "ACC_REL_IMPROVEMENT", "AAOD_REL_IMPROVEMENT"):
                self.assertEqual(values[metric], 0, metric)
            self.assertEqual(values["ASR"], values["ASR_ORIGINAL"])

    def test_tables_over_both_runs(self):
        rows = {name: {(row["approach"], row["metric"]): row for row in table(name)} for name in ("rq2", "rq3")}
        for approach, (full, level) in NAMES.items():
            runs = [run_measures(f"toy/{approach}/{run}") | joint
                    for run, joint in zip((1, 2), joint_measures(approach))]
            for metric in runs[0]:
                row = rows["rq2"].get((approach, metric)) or rows["rq3"][approach, metric]
                values = [run[metric] for run in runs]
                self.assertEqual([row[key] for key in ("subject", "model", "name", "level", "runs", "status")],
                                 ["toy", "Toy", full, level, "2", "ok"])
                for column, value in (("mean", np.mean(values)), ("std", np.std(values, ddof=1)),
                                      ("min", min(values)), ("max", max(values))):
                    self.assert_close(row[column], value, f"{approach} {metric} {column}")
            of = {metric: np.mean([run[metric] for run in runs]) for metric in runs[0]}
            before = 100 * (predict("toy.pt", "test") == numbers(cell("toy/AR/1") / "predictions.csv")["label"]).mean()
            self.assertAlmostEqual(of["ACC"], before + of["RR"] * (100 - before) / 100 - of["NFR"], 9)
        self.assertEqual([row["approach"] for row in table("rq1")], list(NAMES))

    def test_the_attack_knows_no_neighbours(self):
        """Images come in one order, the first that both models get right; an image's flag is the same in all cells."""
        order, original = [], {}
        for identity in CELLS:
            flags, of = numbers(cell(identity) / "attack.csv"), numbers(cell(identity) / "predictions.csv")
            both = set(np.flatnonzero((of["original"] == of["label"]) & (of["fixed"] == of["label"])))
            self.assertEqual(len(flags["image"]), min(ATTACK["sample"], len(both)))
            self.assertLessEqual(set(flags["image"]), both)
            order.append((flags["image"].tolist(), both))
            for image, *values in zip(*(flags[name] for name in ("image", "original", "zero_gradient_original",
                                                                 "original_margin"))):
                self.assertEqual(original.setdefault(image, values), values, identity)
        for (first, of_first), (second, of_second) in itertools.combinations(order, 2):
            shared = [image for image in first if image in of_second], [image for image in second if image in of_first]
            length = min(map(len, shared))
            self.assertEqual(shared[0][:length], shared[1][:length])
        self.assertNotEqual(set(order[6][0]), set(order[7][0]))  # so that joint means something
        joint = next(row for row in table("rq3") if (row["approach"], row["metric"]) == ("published:AP", "ATTACKED"))
        self.assertLess(float(joint["mean"]), ATTACK["sample"])

    def test_times(self):
        for approach in NAMES:
            records = [record(f"toy/{approach}/{run}") for run in (1, 2)]
            rows = {row["metric"]: row for row in table("rq4") if row["approach"] == approach}
            phases = {phase for one in records for phase in one["phases"]} - {"fix"}
            self.assertEqual(set(rows), {"TIME"} | {f"TIME_{phase}" for phase in phases})
            for metric, row in rows.items():
                of = [one["phases"].get(metric.removeprefix("TIME").removeprefix("_") or "fix") for one in records]
                self.assert_close(row["mean"], None if None in of else np.mean(of), f"{approach} {metric}")
                self.assertEqual([row[key] for key in ("device", "threads", "concurrent_workers", "interruptions",
                                                       "unit")],
                                 [records[0]["machine"]["device"], "1", "1", "0", "seconds"])
        self.assertEqual(next(row for row in table("rq4") if row["approach"] == "published:AP")["reason"],
                         "not_applicable: the models were fixed elsewhere")

    def test_summary(self):
        goals = {"RR": 1, "NFR": -1, "ACC_REL_IMPROVEMENT": 1, "ASR_REL_IMPROVEMENT": 1, "AAOD_REL_IMPROVEMENT": 1,
                 "TIME": -1}
        means = {(row["approach"], row["metric"]): row["mean"] for name in ("rq2", "rq3", "rq4") for row in table(name)}
        points = {}
        for row in table("summary"):
            self.assertEqual({goal: row[goal] for goal in goals},
                             {goal: means[row["approach"], goal] for goal in goals}, row["approach"])
            points[row["approach"]] = [sign * float(row[goal]) if row[goal] else -math.inf
                                       for goal, sign in goals.items()]
        self.assertEqual(list(points), list(NAMES))
        for row in table("summary"):
            if row["level"] == "control":
                self.assertEqual(row["pareto_optimal"], "", row["approach"])
                continue
            own = points[row["approach"]]
            beaten = any(other != own and all(a >= b for a, b in zip(other, own)) for name, other in points.items()
                         if NAMES[name][1] != "control")
            self.assertEqual(row["pareto_optimal"], "no" if beaten else "yes", row["approach"])


if __name__ == "__main__":
    main()
