-- How often the model abstains, by the size of the face, in percent of faces.
SELECT quality_band, sum(n_faces) AS faces,
       round(100.0 * sum(n_abstained_gender) / sum(n_faces), 1) AS gender,
       round(100.0 * sum(n_abstained_ethnicity) / sum(n_faces), 1) AS ethnicity,
       round(100.0 * sum(n_abstained_emotion) / sum(n_faces), 1) AS emotion
FROM share_totals
GROUP BY quality_band
ORDER BY quality_band
