"""Whether thresholds hold for other people, and search where the gallery lacks the query, on PKU-Reid.

    python benchmarks/open_set.py ROOT_DIR outputs/pku/tiny_10.pth [--splits 50] [--device cpu]

ROOT_DIR holds PKU-Reid in Market-1501's layout, and the model was trained on its training people:

    svllreid train --config-file person/tiny_svllreid.yml DATASETS.NAMES market1501 DATASETS.ROOT_DIR ROOT_DIR \\
        SOLVER.SEED 1 OUTPUT_DIR outputs/pku

First a calibration is made on some people and its thresholds are applied to others: from the training people to the 12
test people, of images and of means of four, and from six test people to the six others. Then four of the 12 leave the
gallery and become queries of nobody. All draws are seeded, and a line of several draws has their mean and the range of
the middle 90 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from svllreid import Encoder, distances, load_dataset
from svllreid.calibration.calibration import Calibration
from svllreid.calibration.fit import calibrate
from svllreid.calibration.means import deal, mean_feature
from svllreid.calibration.open_set import FALSE_ALARM_RATES, open_set
from svllreid.types import Sample

LEFT_OUT, MEAN_OF = 4, 4


class Embedded:
    """Images with their features, of all or of some people."""

    def __init__(self, features: np.ndarray, samples: Sequence[Sample]) -> None:
        self.features, self.samples = features, samples
        self.pids, self.camids = (np.array([getattr(s, name) for s in samples]) for name in ("pid", "camid"))

    def of(self, people: np.ndarray) -> Embedded:
        """The images of some people."""
        rows = np.flatnonzero(np.isin(self.pids, people))
        return Embedded(self.features[rows], [self.samples[row] for row in rows])

    def means(self) -> Embedded:
        """Means of MEAN_OF images of one person and camera instead of images."""
        groups = deal(self.pids, self.camids, MEAN_OF, seed=0)
        features = np.concatenate([mean_feature(self.features[rows], normalized=True) for rows in groups])
        return Embedded(features, [self.samples[rows[0]] for rows in groups])

    def impostors(self) -> np.ndarray:
        """The distances of all pairs of two people, each pair once."""
        first, second = np.triu_indices(len(self.pids), 1)
        other = self.pids[first] != self.pids[second]
        return distances(self.features, self.features)[first[other], second[other]]

    def genuine(self) -> np.ndarray:
        """The distances of all pairs of one person."""
        first, second = np.triu_indices(len(self.pids), 1)
        same = self.pids[first] == self.pids[second]
        return distances(self.features, self.features)[first[same], second[same]]


def line(name: str, values: Sequence[float]) -> str:
    """Mean and middle 90 % of values, in percent."""
    low, high = np.quantile(values, [0.05, 0.95])
    return f"  {name:58} {100 * np.mean(values):7.3f} %   ({100 * low:.3f} to {100 * high:.3f})"


def transfer(calibration: Calibration, others: Embedded) -> dict[float, tuple[float, float]]:
    """The false and true accept rates of other people at each threshold."""
    impostors, genuine = others.impostors(), others.genuine()
    return {
        rate: (float((impostors <= threshold).mean()), float((genuine <= threshold).mean()))
        for rate in calibration.supported_rates()
        for threshold in [calibration.threshold(rate)]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("weights")
    parser.add_argument("--splits", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    encoder = Encoder.load(args.weights, device=args.device)
    data = load_dataset("market1501", args.root)
    sets = []
    for samples in (data.train, data.query + data.gallery):
        features = encoder.encode([s.path for s in samples], [s.camid for s in samples])
        sets.append(Embedded(features, samples))
    train, test = sets
    people = np.unique(test.pids)
    is_query = np.arange(len(test.samples)) < len(data.query)

    def measured(images: Embedded, name: str, mean_of: int = 1) -> Calibration:
        labels = images.pids, images.camids
        return calibrate(images.features, *labels, spec=encoder.spec, dataset=name, mean_of=mean_of)

    print(f"{len(np.unique(train.pids))} training people, {len(people)} test people, {args.splits} draws")
    print("thresholds from the training people, applied to the test people")
    whole = measured(train, "training people")
    for rate, (false, true) in transfer(whole, test).items():
        point = whole.point(rate)
        print(
            f"  rate {rate:<6g} threshold {point.threshold:.4f}: true accepts {point.true_accept_rate:.1%} of the "
            f"training people; of the test people {true:.1%}, at a false-accept rate of {false:.3%}"
        )
    own = measured(test, "test people")
    for rate in own.supported_rates():
        point = own.point(rate)
        print(
            f"  the test people's own threshold at {rate:<6g} {point.threshold:.4f}: true accepts "
            f"{point.true_accept_rate:.1%}, interval of the rate {point.identity_interval[0]:.2%} to "
            f"{point.identity_interval[1]:.2%}"
        )
    print(f"means of {MEAN_OF} images of the test people, thresholds from the training people for 0.01")
    means = test.means()
    for name, found in (("images", whole), (f"means of {MEAN_OF}", measured(train, "training people", MEAN_OF))):
        false, true = transfer(found, means)[0.01]
        print(f"  calibrated on {name:10} false-accept rate {false:.2%}, true accepts {true:.1%}")
    print("thresholds from six test people, applied to the six others")
    got, true_accepts = [], []
    for seed in range(args.splits):
        order = np.random.default_rng(seed).permutation(people)
        half, others = test.of(order[:6]), test.of(order[6:])
        found = measured(half, "six people")
        false, true = transfer(found, others)[0.01]
        got.append(false)
        true_accepts.append(true)
    print(line("false-accept rate at the threshold for 1 %", got))
    print(line("true-accept rate there", true_accepts))
    print(f"open set: {LEFT_OUT} of the {len(people)} people leave the gallery")
    chosen: dict[str, list[float]] = {}
    for seed in range(args.splits):
        order = np.random.default_rng(1000 + seed).permutation(people)
        there = ~is_query & ~np.isin(test.pids, order[:LEFT_OUT])
        result = open_set(
            test.features[is_query],
            test.features[there],
            test.pids[is_query],
            test.pids[there],
            test.camids[is_query],
            test.camids[there],
        )
        chosen.setdefault("rank-1 of the known queries without a threshold", []).append(result.right.mean())
        for rate in FALSE_ALARM_RATES:
            point = result.at(rate)
            chosen.setdefault(f"DIR at a false-alarm rate of at most {rate:g}", []).append(point.identification_rate)
        for rate in whole.supported_rates():
            point = result.with_threshold(whole.threshold(rate))
            name = f"training people's threshold for {rate:g}"
            chosen.setdefault(f"{name}: false-alarm rate", []).append(point.false_alarm_rate)
            chosen.setdefault(f"{name}: DIR", []).append(point.identification_rate)
    for name, values in chosen.items():
        print(line(name, values))


if __name__ == "__main__":
    main()
