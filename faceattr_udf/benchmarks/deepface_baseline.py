"""DeepFace in an environment of its own, driven line by line: its TensorFlow and our runtimes do not share one.

    python deepface_peer.py PHOTOGRAPH ...

Prints "ready" once everything is loaded, then the faces it found for every line it reads, until the input ends. Its
weights are on no package index, and how long a network takes does not depend on them: they stay random. Only the
detector's, which a package carries, are the real ones, so that the faces are.
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
    """Runs the loop of this module's docstring."""
    os.environ.update(_ENVIRONMENT)
    from deepface import DeepFace  # noqa: PLC0415 - TensorFlow reads the environment when it is loaded
    from deepface.commons import weight_utils  # noqa: PLC0415

    weight_utils.download_weights_if_necessary = lambda file_name, *_, **__: file_name
    weight_utils.load_model_weights = lambda model, *_, **__: model
    photographs = sys.argv[1:]

    def analyse() -> int:
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

    analyse()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        sys.stdout.write(f"{analyse()}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
