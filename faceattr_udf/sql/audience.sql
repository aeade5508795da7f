-- Who is in the photographs, counted and not corrected: faces by perceived age group and gender.
SELECT age_group, gender, sum(n_faces) AS faces
FROM audience
WHERE catalog = 'shoes'
GROUP BY age_group, gender
ORDER BY age_group, gender
