"""Runs DeepFace in its own environment, because its TensorFlow and our runtimes do not fit into one.

    python deepface_baseline.py PHOTOGRAPH ...

Prints "ready" when everything is loaded. Then, for every line on stdin, it analyzes all photographs and prints the
number of faces. DeepFace's attribute weights are on no package index, so the attribute networks keep random weights,
which does not change their speed. The detector has its real weights, which a package ships, so the faces are real.
"""

import os
import sys

_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",
}


def main() -> None:
    """Runs the loop described in the module docstring."""
    os.environ.update(_ENVIRONMENT)
    from deepface import DeepFace  # noqa: PLC0415 - TensorFlow reads the environment when it is loaded
    from deepface.commons import weight_utils  # noqa: PLC0415

    weight_utils.download_weights_if_necessary = lambda file_name, *_, **__: file_name
    weight_utils.load_model_weights = lambda model, *_, **__: model
    photographs = sys.argv[1:]

    def analyze() -> int:
        found = 0
        for path in photographs:
            faces = DeepFace.analyze(
                path,
                actions=("age", "gender", "race", "emotion"),
                detector_backend="mtcnn",
                enforce_detection=False,
                silent=True,
            )
            found += len(faces)
        return found

    analyze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        sys.stdout.write(f"{analyze()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
