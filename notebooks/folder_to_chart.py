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
# Everything below runs on the embedded engine: no Java, no cluster. The same code runs on Spark when the configuration
# says `engine.name = "spark"`.
#
# Run it from the repository: `make demo` fetches the photographs, then open this file with Jupyter (jupytext), or use
# a folder of your own: set `FACEATTR_PHOTOS`.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from faceattr_udf.config import Config
from faceattr_udf.spark.locations import output_ref
from faceattr_udf.spark.session import start
from faceattr_udf.spark.tables import Tables
from jobs import enrich, ingest

photos = Path(os.environ.get("FACEATTR_PHOTOS", "../demo/photos"))
tables = Path(tempfile.mkdtemp(prefix="faceattr_"))

# %% [markdown]
# ## 1. A folder becomes an images table
#
# One row per file: `image_id` is the path relative to the folder, `content` the bytes as they are.

# %%
assert ingest.main(["--input", str(photos), "--images", str(tables / "images")]) == 0

# %% [markdown]
# ## 2. The images table becomes faces
#
# The same job that runs every night. Every image gets a row in `image_results`, every face a row in `faces`.

# %%
assert enrich.main(["--images", str(tables / "images"), "--output", str(tables)]) == 0

# %%
config = Config()
spark = start(config)
for name in (config.output.image_results, config.output.faces):
    Tables(spark, config.engine.name).read(output_ref(name, str(tables))).createOrReplaceTempView(name)
spark.sql("SELECT status, count(*) AS images FROM image_results GROUP BY status ORDER BY status").toPandas()

# %% [markdown]
# ## 3. What was perceived
#
# These are perceptions of a model, not truths about people. Each comes with how sure the model was, and the whole
# distribution is in `gender_probs`, `ethnicity_probs` and `emotion_probs`.

# %%
faces = spark.sql("""
    SELECT image_id, face_index, round(age) AS age, round(age_low) AS low, round(age_high) AS high,
           gender, ethnicity, emotion, round(emotion_confidence, 2) AS sure
    FROM faces ORDER BY image_id, face_index
""").toPandas()
faces

# %% [markdown]
# ## 4. A chart
#
# Averaging probabilities instead of counting labels keeps what the model was unsure about.

# %%
emotions = spark.sql("""
    SELECT emotion, avg(probability) AS share
    FROM (SELECT explode(emotion_probs) AS (emotion, probability) FROM faces)
    GROUP BY emotion ORDER BY share
""").toPandas()

figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
for position, face in faces.reset_index().iterrows():
    left.plot([face["low"], face["high"]], [position, position], color="tab:blue")
    left.plot(face["age"], position, "o", color="tab:blue")
left.set_yticks(range(len(faces)), faces["image_id"] + " #" + faces["face_index"].astype(str))
left.set_xlabel("perceived age, years (80 % interval)")
right.barh(emotions["emotion"], emotions["share"], color="tab:orange")
right.set_xlabel("mean probability over all faces")
figure.suptitle("Perceived age and emotion")
figure.tight_layout()
plt.show()
