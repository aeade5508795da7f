-- Shares of a perceived attribute by catalog and month, with their 95 % intervals, in percent.
-- Where fit is poor, the photographs differ from the calibration's: take low_transfer and high_transfer instead.
SELECT catalog, period_start AS month, label, round(100 * share, 1) AS share, round(100 * low, 1) AS low,
       round(100 * high, 1) AS high, fit
FROM shares
WHERE period = 'month' AND attribute = 'gender' AND slice = 'all'
ORDER BY catalog, month, label
