-- The corrected share of any selection of faces, with its 95 % interval for exactly these faces, in percent.
-- Change the conditions in `chosen`: any days, catalogs, slices and settings of one model_version.
WITH chosen AS (
    SELECT model_version, attribute, method, quality_band, score_label, sum(score) AS score
    FROM share_stats
    WHERE attribute = 'ethnicity' AND catalog = 'shoes' AND day BETWEEN '2026-03-02' AND '2026-03-08'
    GROUP BY model_version, attribute, method, quality_band, score_label
), faces AS (
    SELECT sum(score) AS n FROM chosen
), groups AS (  -- faces whose correction has the same statistics
    SELECT w.model_version, w.attribute, w.method, w.statistics, w.label,
           sum(w.weight * c.score) AS weighted, sum(c.score) AS n
    FROM chosen c JOIN label_weights w
      ON w.model_version = c.model_version AND w.attribute = c.attribute AND w.method = c.method
     AND w.quality_band = c.quality_band AND w.score_label = c.score_label
    WHERE c.score > 0
    GROUP BY w.model_version, w.attribute, w.method, w.statistics, w.label
), shares AS (
    SELECT label, sum(weighted) / sum(n) AS share FROM groups GROUP BY label
), variances AS (
    SELECT v.label, sum(g.weighted * g.weighted * v.var_model + greatest(g.weighted, 0) * v.var_scores) AS variance
    FROM groups g JOIN label_weights_var v
      ON v.model_version = g.model_version AND v.attribute = g.attribute AND v.method = g.method
     AND v.statistics = g.statistics AND v.true_label = g.label
    GROUP BY v.label
)
SELECT s.label, round(100 * s.share, 1) AS share,
       round(100 * greatest(s.share - 1.959964 * sqrt(v.variance) / f.n, 0), 1) AS low,
       round(100 * least(s.share + 1.959964 * sqrt(v.variance) / f.n, 1), 1) AS high
FROM shares s JOIN variances v ON v.label = s.label CROSS JOIN faces f
ORDER BY s.label
