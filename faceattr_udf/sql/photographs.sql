-- How many people photographs show, and whom.
SELECT crowd, composition, sum(n_photographs) AS photographs, sum(n_faces) AS faces
FROM photographs
GROUP BY crowd, composition
ORDER BY crowd, composition
