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
# # From consent to erasure
#
# A catalogue whose subjects decide: a policy, consents, minors, access, erasure, and a table for others. What each step
# guarantees, and which test shows it, is in docs/privacy.md. Nothing here is legal advice.
#
# The notebook runs on the embedded engine over the demo's photographs. To use your own, set the environment variable
# `FACEATTR_PHOTOS` to a folder.

# %%
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812  # Spark's own convention

from faceattr_udf import Config
from faceattr_udf.errors import PolicyError
from faceattr_udf.labels import CLASSES
from faceattr_udf.publishing.release import release
from faceattr_udf.spark import enrich, ingest, start
from faceattr_udf.spark.erasure import Wish, erase
from faceattr_udf.spark.explanation import explain

photos = Path(os.environ.get("FACEATTR_PHOTOS", "../demo/photos"))
folder = Path(tempfile.mkdtemp(prefix="faceattr_"))
images, lake, consents = (str(folder / name) for name in ("images", "lake", "consents"))
spark = start(Config())


def read(table: str) -> DataFrame:
    return spark.read.format("delta").load(table)


# %% [markdown]
# ## 1. Photographs have subjects, and subjects have consents
#
# Each photograph is somebody's. Everybody agrees, except for the subject of `portrait.jpg`.

# %%
ingest(spark, Config(), str(photos), str(folder / "ingested"))
catalogue = read(str(folder / "ingested")).withColumn("subject_id", F.concat(F.lit("S-"), F.col("image_id")))
catalogue.write.format("delta").save(images)

agreed = datetime(2026, 1, 1, tzinfo=UTC)
rows = [(row.subject_id, "audience_statistics", agreed, None) for row in catalogue.select("subject_id").collect()]
rows = [row for row in rows if row[0] != "S-portrait.jpg"]
SCHEMA = "subject_id string, purpose string, granted_at timestamp, withdrawn_at timestamp"
spark.createDataFrame(rows, SCHEMA).write.format("delta").save(consents)

# %% [markdown]
# ## 2. A policy is checked before any work
#
# With a jurisdiction named, a rule that forbids what the configuration asks for stops the run. Here: emotions at work.

# %%
settings = [
    f"consent.table={consents}",
    f"privacy.key_file={folder / 'erasure.key'}",
    "privacy.purpose=audience_statistics",
    "privacy.jurisdictions=['EU']",
    "privacy.legal_basis=['eu-gdpr:A6-1-a']",
    "privacy.controller=Example Ltd, privacy@example.com",
    "privacy.notice_ref=https://example.com/privacy",
    "minors.age=18",
]
at_work = [*settings, "privacy.context=workplace", "attributes.predict=['age', 'emotion']"]
try:
    enrich(spark, Config.load(None, at_work), images, lake)
except PolicyError as error:
    print(error)

# %% [markdown]
# ## 3. A night with consents and minors
#
# Pictures without consent are not read. A face that may be a minor's keeps its age group and nothing else. Attributes
# that `attributes.predict` does not list are cut out of the network.

# %%
config = Config.load(None, [*settings, "attributes.predict=['age', 'gender']"])
run = enrich(spark, config, images, lake)
print(f"{run.n_images} images, {run.n_faces} faces, {run.n_minors} of them perhaps minors'")

# %%
read(f"{lake}/image_results").select("image_id", "status", "n_faces").orderBy("image_id").toPandas()

# %%
columns = ("image_id", "minor", "age_group", "age", "gender", "emotion")
read(f"{lake}/faces").select(*columns).orderBy("image_id").toPandas()

# %% [markdown]
# ## 4. Somebody asks what is held about them

# %%
answer = explain(spark, config, images, lake, subject_ids=["S-astronaut.png"])
print(dict(answer.counts))

# %% [markdown]
# ## 5. Somebody withdraws their consent
#
# The next run deletes the faces and asks for their physical removal, which `faceattr erase --due` does after each
# night.

# %%
now = datetime.now(UTC)
changed = [(*row[:3], now if "five_friends" in row[0] else None) for row in rows]
spark.createDataFrame(changed, SCHEMA).write.format("delta").mode("overwrite").save(consents)
enrich(spark, config, images, lake)
removed = erase(spark, config, lake, Wish(due=True))
print(f"{removed.search.files} files searched; complete: {removed.complete}")
read(f"{lake}/faces").select("image_id", "face_index").orderBy("image_id").toPandas()

# %% [markdown]
# ## 6. Somebody wants to be forgotten
#
# Rows, copies, old files and log entries go, and every remaining file is searched. The certificate names no id.

# %%
certificate = erase(spark, config, lake, Wish(subject_ids=["S-astronaut.png"]), images=images)
print(certificate.to_json())

# %% [markdown]
# The picture comes back with the next delivery. It is not derived again: the tombstone, a keyed hash, recognizes it.

# %%
catalogue.where("image_id = 'astronaut.png'").write.format("delta").mode("append").save(images)
enrich(spark, config, images, lake)
read(f"{lake}/image_results").select("image_id", "status").orderBy("image_id").toPandas()

# %% [markdown]
# ## 7. A table for others
#
# `faceattr publish` writes the only table that is meant for others, when a month is over. Eight photographs are too few
# to tell anything about, so here is what it makes of made-up counts of people in two shops: cells of fewer than ten
# people are suppressed, and others with them, so that no sum gives them back.

# %%
counts = {"north": {"female": 412, "male": 388, "unknown": 4}, "south": {"female": 95, "male": 61, "unknown": 30}}
cells = release({"gender": counts}, {"gender": CLASSES["gender"]}, k=10, statistics={})
pd.DataFrame(
    [(cell.catalog, cell.label, cell.n_people) for cell in cells], columns=["shop", "label", "people"]
).convert_dtypes()
