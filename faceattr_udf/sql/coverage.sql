-- What could not be judged, and why; and how large the faces are that could, in pixels.
SELECT status, reason, sum(n_images) AS images, sum(n_faces) AS faces, round(min(face_px_p10), 0) AS smallest_p10
FROM coverage
GROUP BY status, reason
ORDER BY images DESC, status, reason
