# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train and judge a model of your own
#
# Four steps: faces of your own photographs, labels by people, training from the shipped weights, and a comparison on
# faces that no training saw. It needs the extra `train`, and no GPU for as few faces as here.
#
# **The labels here are made up.** The notebook runs on eight photographs, and takes as their labels what the shipped
# model says. So the figures below show the steps, and nothing about accuracy: for that, have people label some thousand
# faces. Set the environment variable `FACEATTR_FACES` to a folder with `*-train.parquet`, `*-val.parquet` and
# `*-test.parquet` to use yours (docs/training.md).

# %%
import io
import os
import tempfile
from pathlib import Path

import pandas as pd
from PIL import Image, ImageOps

from faceattr_udf import Config, FaceAnalyzer, weights
from faceattr_udf.attributes.predictor import load_predictor
from faceattr_udf.cli.reference import shipped_config
from faceattr_udf.datasets.labeled_faces import load_faces, read_tables
from faceattr_udf.evaluation.predict import predict_in_batches
from faceattr_udf.evaluation.report import report
from faceattr_udf.spark import enrich, ingest, start
from faceattr_udf.training.run import run
from faceattr_udf.training.settings import TrainingSettings

photos = Path(os.environ.get("FACEATTR_PHOTOS", "../demo/photos"))
folder = Path(tempfile.mkdtemp(prefix="faceattr_"))
faces = Path(os.environ.get("FACEATTR_FACES", folder / "labeled"))

# %% [markdown]
# ## 1. Cut the faces out of photographs
#
# `output.crops = true` stores each face as the network saw it. Crops show people, so do it only where you may.

# %%
config = Config.load(None, ["output.crops=true"])
spark = start(config)
ingest(spark, config, str(photos), str(folder / "images"))
enrich(spark, config, str(folder / "images"), str(folder))
found = spark.read.format("delta").load(str(folder / "faces")).where("crop IS NOT NULL")
columns = ("image_id", "face_index", "age", "gender", "ethnicity", "emotion", "crop")
crops = found.select(*columns).orderBy("image_id", "face_index").toPandas()
len(crops)

# %% [markdown]
# ## 2. Have people label them
#
# One Parquet file per split. No person may be in two splits, or the test measures who is recognized. Faces may lack
# labels: each counts for the attributes that it has a label for.


# %%
def varied(crop: bytes, number: int) -> bytes:
    """Returns a mirrored and turned copy, so that eight faces become enough to show the steps."""
    image = Image.open(io.BytesIO(crop))
    image = ImageOps.mirror(image) if number % 2 else image
    image = image.rotate(3.0 * (number % 7 - 3), resample=Image.Resampling.BILINEAR)
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=90)
    return encoded.getvalue()


if not faces.exists():
    faces.mkdir()
    for split, copies in {"train": 8, "val": 2, "test": 2}.items():
        rows = [
            {
                "image_id": f"{split}/{number}/{face.image_id}/{face.face_index}",
                "image": varied(face.crop, number),
                "split": split,
                "source": "mine",
                "age": face.age,
                "age_min": face.age,
                "age_max": face.age,
                "gender": face.gender,
                "ethnicity": face.ethnicity,
                "emotion": face.emotion,
                "identity": None,
            }
            for number in range(copies)
            for face in crops.itertuples()
        ]
        pd.DataFrame(rows).to_parquet(faces / f"mine-{split}.parquet")

# %% [markdown]
# ## 3. Train from the shipped weights
#
# conf/train/default.toml explains every setting. A real training takes three epochs over 100,000 faces.

# %%
shipped = Path(weights.__file__).parent / "attributes_default.safetensors"
settings = TrainingSettings.load(
    shipped_config("train/default.toml"),
    [
        f"train.initial={shipped}",
        "train.data.sources={mine=1.0}",
        "train.data.resolution_schedule=[[0.0, 64]]",
        "train.data.workers=1",
        "train.optim.batch_size=16",
        "train.optim.epochs=1",
        "train.num_evals=1",
        "train.device=cpu",
        "train.torch_compile=false",
    ],
)
mine = folder / "weights"
record = run(settings, [faces], mine, lambda _: None)
print(f"{record.model_version}, trained on {record.training['faces']} faces")

# %% [markdown]
# ## 4. Judge it beside the shipped model, on faces that no training saw
#
# Look at the groups, too, not only at the means: `faceattr evaluate --card` writes a model card with all of them.

# %%
test = read_tables(sorted(faces.glob("*-test.parquet")))
scores = {}
for name, place in {"shipped": None, "mine": str(mine)}.items():
    predictor = load_predictor(Config.load(None, [f"attributes.weights={place}"] if place else []).attributes)
    crops_of_test = load_faces(test, predictor.record.input_size, predictor.record.margin)
    scores[name] = report(predict_in_batches(predictor, crops_of_test), crops_of_test)["overall"]
names = ["age_mae", "gender_accuracy", "ethnicity_accuracy", "emotion_accuracy"]
pd.DataFrame({name: [of_model[metric] for metric in names] for name, of_model in scores.items()}, index=names).round(2)

# %% [markdown]
# ## 5. Use it
#
# With `attributes.weights` the nightly job uses your weights; images that it has seen are inferred again, because the
# model is another one. `faceattr evaluate --quantify` measures what `faceattr marts` needs to correct shares.

# %%
own = Config.load(None, [f"attributes.weights={mine}"])
results = FaceAnalyzer.from_config(own).analyze([path.read_bytes() for path in sorted(photos.rglob("*.*"))])
print([face.gender for result in results for face in result.faces])
