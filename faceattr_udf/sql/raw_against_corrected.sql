-- How far counted labels are from corrected shares over all catalogs and days, in points.
SELECT attribute, label, round(100 * raw_share, 1) AS raw, round(100 * share, 1) AS corrected,
       round(100 * (share - raw_share), 1) AS moved, round(100 * low, 1) AS low, round(100 * high, 1) AS high, method
FROM shares
WHERE period = 'all' AND catalog = 'all' AND slice = 'all' AND attribute IN ('age_group', 'ethnicity')
ORDER BY attribute, label
