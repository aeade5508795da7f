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
# # Who is in a catalog? Counted and corrected shares, in SQL
#
# Who is in a catalog of photographs? Counting the labels of a model answers with the model's own confusions. This
# notebook shows how far they move the answer, and how little a few faces say. It runs on the embedded engine.
#
# `make demo` downloads the photographs. To use your own, set the environment variable `FACEATTR_PHOTOS` to a folder.

# %%
import os
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from faceattr_udf import Config
from faceattr_udf.attributes.predictor import model_record
from faceattr_udf.shares.calibration_file import load_calibration
from faceattr_udf.spark import build_marts, enrich, ingest, start
from faceattr_udf.spark.marts.queries import queries, register_views

photos = Path(os.environ.get("FACEATTR_PHOTOS", "../demo/photos"))
lake = tempfile.mkdtemp(prefix="faceattr_")
config = Config()
spark = start(config)

# %% [markdown]
# ## 1. From photographs to marts
#
# The same three steps as `faceattr ingest`, `enrich` and `marts`. Marts are small flat tables with sums over faces: all
# queries below read them, and none reads a face.

# %%
ingest(spark, config, str(photos), f"{lake}/images")
run = enrich(spark, config, f"{lake}/images", lake)
calibration = load_calibration(model_record(config.attributes))
build_marts(spark, config, lake, calibration)
register_views(spark, lake)
print(f"{run.n_faces} faces in {run.n_images} images")

# %% [markdown]
# ## 2. What could be judged at all
#
# Shares are of faces that were found. The table `coverage` says what is missing, and `share_totals` on how many of the
# found faces the model gives no answer.

# %%
spark.sql(queries()["coverage"]).toPandas()

# %%
spark.sql(queries()["abstention"]).toPandas()

# %% [markdown]
# ## 3. Counted against corrected
#
# `raw_share` counts labels. `share` undoes the confusions that were measured on labeled faces, and `low` to `high` is
# its 95 % interval, of the error from these faces and from the labeled ones. It is for photographs like the labeled
# ones, which `fit` checks; of so few faces it can tell little.

# %%
shares = spark.sql("""
    SELECT attribute, label, n_faces AS faces, raw_share AS counted, share AS corrected, low, high, fit
    FROM shares
    WHERE period = 'all' AND catalog = 'all' AND slice = 'all'
    ORDER BY attribute, label
""").toPandas()
shares.round(3)

# %%
figure, panels = plt.subplots(1, 4, figsize=(13, 3.6))
for panel, (attribute, rows) in zip(panels, shares.groupby("attribute"), strict=True):
    places = range(len(rows))
    panel.hlines(places, rows["low"], rows["high"], color="tab:blue", alpha=0.5, linewidth=4)
    panel.plot(rows["corrected"], places, "o", color="tab:blue", label="corrected, 95 % interval")
    panel.plot(rows["counted"], places, "D", color="tab:orange", label="counted", markersize=4)
    panel.set_yticks(places, rows["label"])
    panel.set_xlim(0, 1)
    panel.set_title(attribute)
panels[0].legend(fontsize=7)
figure.suptitle("Perceived shares of the demo's faces")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## 4. What the correction moves, and why
#
# It moves a share most where the model confuses a label most. `label_weights` holds the correction itself: a corrected
# share is the sum of weight times score, divided by the number of faces. A model without confusions would have the
# weight 1 on the diagonal, and 0 elsewhere.

# %%
weights = spark.sql("""
    SELECT label, score_label, round(weight, 3) AS weight
    FROM label_weights
    WHERE attribute = 'gender' AND method = 'acc' AND quality_band = 'large'
    ORDER BY label, score_label
""").toPandas()
weights.pivot_table(index="label", columns="score_label", values="weight")

# %%
spark.sql("""
    SELECT w.label, sum(w.weight * s.score) / (SELECT sum(score) FROM share_stats WHERE attribute = 'gender') AS by_hand
    FROM share_stats s JOIN label_weights w
      ON w.model_version = s.model_version AND w.attribute = s.attribute AND w.method = s.method
     AND w.quality_band = s.quality_band AND w.score_label = s.score_label
    WHERE s.attribute = 'gender'
    GROUP BY w.label
    ORDER BY w.label
""").toPandas()

# %% [markdown]
# `by_hand` may lie below 0 or above 1, where the model confused fewer faces than usual. `share` is the nearest set of
# shares that is possible. For any selection of faces, with its interval, take the query `corrected_share`.

# %% [markdown]
# ## 5. More faces do not help a biased count
#
# The error of a corrected share has two parts. `se_sample` falls with the number of faces. `se_model` does not: it is
# how well the confusions are known. A counted share has a third part, the confusions themselves, which no number of
# faces makes smaller: in the first table of docs/shares.md counting 50,000 faces is no better than counting 3,000.

# %%
spark.sql("""
    SELECT attribute, label, round(se_sample, 4) AS se_sample, round(se_model, 4) AS se_model
    FROM shares
    WHERE period = 'all' AND catalog = 'all' AND slice = 'all' AND attribute = 'gender'
    ORDER BY label
""").toPandas()
