"""Small budgets for every approach there is, also those that nobody had thought of here: by the names and types that
parameters have."""

# Integers that say how long an approach searches or trains. What is not named here keeps its default.
SMALL = {"generations": 6, "iterations": 6, "population": 20, "particles": 12, "steps": 30, "max_iters": 40,
         "epochs": 2, "probe_epochs": 5, "probe_samples": 200, "repair_samples": 60, "clean_samples": 200,
         "routing_samples": 20, "routing_steps": 10, "proposals": 20, "rounds": 2, "faults": 4, "least_negatives": 2,
         "hard_per_class": 2, "clean": 200, "types": 3, "rank_inputs": 300, "trees": 10, "samples": 200}


def parameters(approach, by_key):
    """Of one entry of `harness list approaches --format json`; a control has those of what it shadows, too."""
    shadowed = by_key.get(approach.get("shadow", ""), {"parameters": []})
    small = {}
    for one in [*shadowed["parameters"], *approach["parameters"]]:
        if one["type"] != "integer" or one["name"] not in SMALL:
            continue
        least, most = one["minimum"], one["maximum"]
        value = SMALL[one["name"]]
        value = value if least is None else max(value, int(least))
        value = value if most is None else min(value, int(most))
        if one["default"] in (None, 0) or value < one["default"]:  # 0 or null: all there are, or by a rule
            small[one["name"]] = value
    return small


def approaches(listed):
    """Entries of a configuration: every approach. Controls imitate a search (AR) and a training (IR)."""
    by_key = {one["key"]: one for one in listed}
    entries = []
    for one in listed:
        names = [(one["key"], "")]
        if one["shadows"]:
            names = [(f"{one['key']}:{other}", other) for other in ("AR", "IR") if other in by_key]
        for name, other in names:
            small = parameters({**one, "shadow": other}, by_key)
            entries.append({"key": name, "parameters": small} if small else name)
    return entries
