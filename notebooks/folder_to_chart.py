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
# # From a folder of photographs to a chart
#
# This notebook runs on the embedded engine, without Java and without a cluster. The same code runs on Apache Spark with
# `Config.load(None, ["engine.name=spark"])`.
#
# `make demo` downloads the photographs. To use your own, set the environment variable `FACEATTR_PHOTOS` to a folder.
# Open this file with Jupyter and the jupytext extension.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from faceattr_udf import Config
from faceattr_udf.spark import analyze_images, enrich, explode_faces, ingest, start

photos = Path(os.environ.get("FACEATTR_PHOTOS", "../demo/photos"))
tables = Path(tempfile.mkdtemp(prefix="faceattr_"))
config = Config()
spark = start(config)

# %% [markdown]
# ## 1. Ingest a folder into an images table
#
# Every file becomes a row: `image_id` is its path relative to the folder, `content` its bytes.

# %%
report = ingest(spark, config, str(photos), str(tables / "images"))
print(f"{report.new} new images")

# %% [markdown]
# ## 2. Find and describe the faces
#
# `enrich` is the nightly job. It writes one row per image to `image_results` and one row per face to `faces`. A second
# run processes only new and changed images.

# %%
run = enrich(spark, config, str(tables / "images"), str(tables))
print(f"{run.n_faces} faces in {run.n_images} images")

# %%
for name in ("image_results", "faces"):
    spark.read.format("delta").load(str(tables / name)).createOrReplaceTempView(name)
spark.sql("SELECT status, count(*) AS images FROM image_results GROUP BY status ORDER BY status").toPandas()

# %% [markdown]
# ## 3. Read the predictions
#
# The values are what a model perceives, not facts about people. Every prediction has a confidence, and the columns
# `gender_probs`, `ethnicity_probs` and `emotion_probs` have the probabilities of all classes.

# %%
faces = spark.sql("""
    SELECT image_id, face_index, round(age) AS age, round(age_low) AS age_low, round(age_high) AS age_high,
           gender, ethnicity, emotion, round(emotion_confidence, 2) AS emotion_confidence
    FROM faces ORDER BY image_id, face_index
""").toPandas()
faces

# %% [markdown]
# ## 4. Draw a chart
#
# The chart averages probabilities instead of counting labels, so that uncertain predictions count as uncertain.

# %%
emotions = spark.sql("""
    SELECT emotion, avg(probability) AS probability
    FROM (SELECT explode(emotion_probs) AS (emotion, probability) FROM faces)
    GROUP BY emotion ORDER BY probability
""").toPandas()

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
for position, face in faces.reset_index().iterrows():
    left.plot([face["age_low"], face["age_high"]], [position, position], color="tab:blue")
    left.plot(face["age"], position, "o", color="tab:blue")
left.set_yticks(range(len(faces)), faces["image_id"] + " #" + faces["face_index"].astype(str))
left.set_xlabel("perceived age, years (80 % prediction interval)")
right.barh(emotions["emotion"], emotions["probability"], color="tab:orange")
right.set_xlabel("mean probability over all faces")
figure.suptitle("Perceived age and emotion")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## 5. Analyze any DataFrame
#
# `analyze_images` and `explode_faces` do the same in your own pipeline, without the output tables: they transform any
# DataFrame that has a binary column `content`. `analyze_images` adds the status and an array of faces to every row;
# `explode_faces` returns one row per face.

# %%
images = spark.read.format("delta").load(str(tables / "images")).select("image_id", "content")
results = images.orderBy("image_id").limit(3).transform(analyze_images(config))
results.transform(explode_faces(config)).select("image_id", "face_index", "age", "gender", "emotion").toPandas()
