"""Sample quality of a run: features of a classifier that is trained once per data set, in a run folder of its own."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from dlcore.parallel.mesh import make_mesh, to_host
from dlcore.train.experiment import Experiment
from dlcore.train.run_folder import check_data, locked, read_json, write_json
from dlcore.train.sample_quality import covered_classes, quality
from dlcore.train.state import view_of
from dlcore.types import View
from launch import request
from launch.progress import ticker

BATCH = 256
"""Samples drawn at once."""


def measure(
    run: request.Request, experiment: Experiment, view: View, train: Callable[[request.Request], Any]
) -> dict[str, float]:
    """Distances of samples to real images, with the floor; also writes them with their recipe to `quality.json`.

    As many samples as `experiment.quality_samples`, or as the smaller of the real splits holds, are compared with test
    images; the floor compares as many training images. Nothing for data without classes, or several processes.
    `train` trains the classifier's run if it has not been.
    """
    spec, data = run.source.spec, run.source
    count = min(experiment.quality_samples, data.train.size, data.test.size)
    if count < 2 or experiment.sample is None or not spec.classes or len(spec.shape) != 3 or jax.process_count() > 1:
        return {}
    classifier = feature_run(run, train)
    extract = feature_extractor(classifier)
    rng = np.random.default_rng(0)
    test, real = (
        split.read(np.sort(rng.choice(split.size, count, replace=False))) for split in (data.test, data.train)
    )
    images = draw(experiment, view, spec.levels, count)
    (samples, logits), (tests, _), (reals, _) = map(extract, (images, test["image"], real["image"]))
    found = quality(samples, tests, reals)._asdict()
    found["classes"] = float(covered_classes(logits.argmax(-1), test["label"], spec.classes))
    summary = read_json(classifier.workdir / "summary.json")
    recipe = {
        "samples": count,
        "features": samples.shape[1],
        "layer": "input of the last layer",
        "classifier": classifier.identity(),
        "classifier_accuracy": summary["metrics"]["test/accuracy"],
        "classifier_sha256": summary["state_sha256"],
        "seed": 0,
    }
    write_json(run.workdir / "quality.json", {"metrics": found, "recipe": recipe})
    return found


def feature_run(run: request.Request, train: Callable[[request.Request], Any]) -> request.Request:
    """The run of the classifier for this data set, beside the run folder; trained if it is not yet."""
    module = request.experiment_module("classify")
    size = f"-{run.image_size}" if run.image_size else ""
    folder = run.workdir.parent / f"classify-{request.file_name(run.data)}{size}-features"
    source = request.data_for(module, run.data, run.data_dir, run.image_size)
    config = module.preset("features", source.spec)
    classifier = request.Request(
        folder, "classify", "features", run.data, 0, config, source, run.data_dir, run.image_size
    )
    with locked(folder / "turn", wait=True):
        if (folder / "config.json").exists():
            check_data(folder, classifier.identity()["fingerprint"])
        if not (folder / "summary.json").exists():
            print(f"training the classifier whose features measure samples, in {folder}", flush=True)
            train(classifier)
    return classifier


def feature_extractor(classifier: request.Request) -> Any:
    """`images uint8 [n, h, w, c] -> (features, logits)` as NumPy arrays, in batches."""
    mesh, module = make_mesh(), request.experiment_module("classify")
    experiment = classifier.build()
    view = view_of(experiment.update, to_host(mesh, request.restore(classifier, experiment, mesh)))
    extract = module.features(classifier.config, classifier.source.spec)

    def features(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        chunks = np.array_split(images, -(-len(images) // BATCH))
        pairs = [extract(view.params, view.state, chunk) for chunk in chunks]
        return tuple(np.concatenate([np.asarray(x) for x in part]) for part in zip(*pairs, strict=True))

    return features


def draw(experiment: Experiment, view: View, levels: int, count: int) -> np.ndarray:
    """`count` samples as grey levels, uint8 [count, h, w, c]."""
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(-(-count // BATCH))]
    tell, parts = ticker("samples to be compared", count), []
    for i, key in enumerate(keys):
        tell(i * BATCH)
        parts.append(np.asarray(experiment.sample(view.params, view.state, key, BATCH)))
    images = np.concatenate(parts)[:count]
    return np.round(np.clip(images, 0, 1) * (levels - 1)).astype(np.uint8)
