"""What every table and column holds, in one sentence each: for the documentation and for comments in catalogs."""

from typing import Final

TABLES: Final = {
    "faces": "One row per face, with perceived attributes: not truths about people.",
    "image_results": "One row per image: its status and the number of its faces.",
    "runs": "One row per run of the enrichment.",
    "drift": "One row per run and value, judged against the runs before it.",
}
_PROVENANCE: Final = {
    "config_id": "Identifies the settings that decide what is computed; 16 hexadecimal digits.",
    "model_version": "Identifies the weights of the detector and of the attribute model.",
    "run_id": "The run that wrote the row.",
    "processed_at": "When the row was computed, UTC.",
}
IMAGES_COLUMNS: Final = {
    "image_id": "Unique name of the image. `faceattr ingest` uses the path relative to the folder.",
    "content": "The encoded image (JPEG, PNG, WebP, ...); null for files larger than `images.max_bytes`.",
    "content_sha256": "SHA-256 of the content, hexadecimal. With it, a run finds new images without reading any.",
    "path": "The file's path.",
    "size": "Size of the file, bytes.",
}
FACES_COLUMNS: Final = {
    "image_id": "The image.",
    "face_index": "0 for the largest face of the image, then by falling size.",
    "bbox": "The face's box: `x_min`, `y_min`, `x_max`, `y_max`, pixels of the EXIF-upright image.",
    "det_confidence": "The detector's probability that this is a face, 0 to 1.",
    "age": "Perceived age, years; null where the model abstains.",
    "age_low": "Lower bound of the 80 % prediction interval, years.",
    "age_high": "Upper bound of the 80 % prediction interval, years.",
    "age_group": "Ten-year group of `age`: 0-9, 10-19, ... 70+.",
    "age_group_probs": "Ten-year group -> probability; they sum to 1. Null of minors' faces, and in version 1.",
    "gender": "Perceived gender: female or male; null where the model abstains.",
    "gender_confidence": "Probability of the most likely label, 0 to 1.",
    "gender_probs": "Label -> probability; they sum to 1.",
    "ethnicity": "Perceived ethnicity: white, black, asian, indian, middle_eastern or latino_hispanic; null "
    "where the model abstains.",
    "ethnicity_confidence": "Probability of the most likely label, 0 to 1.",
    "ethnicity_probs": "Label -> probability; they sum to 1.",
    "emotion": "Perceived facial expression: neutral, happiness, sadness, anger, fear, surprise or disgust; null where "
    "the model abstains.",
    "emotion_confidence": "Probability of the most likely label, 0 to 1.",
    "emotion_probs": "Label -> probability; they sum to 1.",
    "quality": "How well the face can be seen: `face_px` (shorter side of the box, pixels), `blur` (0 sharp to 1 "
    "blurred), `brightness` (0 to 1), `yaw`, `pitch`, `roll` (degrees).",
    "minor": "Whether the face may be a minor's, so that it keeps only `minors.keep`; null where `minors.age` is 0.",
    "landmarks": "Eyes, nose and mouth corners, pixels. Only with `output.landmarks = true`.",
    "crop": "The face crop, JPEG. Only with `output.crops = true`.",
    "embedding": "The face as a vector, which can identify people. Only with `output.embeddings = true`.",
    **_PROVENANCE,
}
RESULTS_COLUMNS: Final = {
    "image_id": "The image. Every row of the images table has exactly one row here.",
    "content_sha256": "SHA-256 of the content that was processed, of the text where it is base64; null where there is "
    "none.",
    "status": "What became of the image; see below.",
    "error": "What is wrong, for statuses other than `ok` and `no_face`.",
    "width": "Pixels, EXIF-upright; null where the image could not be read.",
    "height": "Pixels, EXIF-upright; null where the image could not be read.",
    "n_faces": "Number of its rows in faces.",
    **_PROVENANCE,
}
RUNS_COLUMNS: Final = {
    "run_id": "Unique; begins with the start time, so that ids sort by time.",
    "state": "`running`, `completed`, `failed`, or `interrupted` (killed; the next run notices).",
    "started_at": "UTC.",
    "finished_at": "UTC; null while running.",
    "engine": "`sail`, `spark` or `connect`.",
    "images": "The images table, as the user named it.",
    "n_images": "Images that got a result in this run.",
    "n_faces": "Faces of those images.",
    "n_inferred": "Images whose content went through the models; equal content is inferred once.",
    "n_duplicate_rows": "Rows of the images table that were ignored, because another row has the same image_id.",
    "n_deleted_images": "Images whose rows were deleted, because they left the images table.",
    "counts": "Status -> number of images.",
    "images_per_second": "Over the whole run.",
    "config_id": _PROVENANCE["config_id"],
    "model_version": _PROVENANCE["model_version"],
    "config": "The whole configuration as JSON, without secrets.",
    "schema_version": "Version of the tables' columns.",
    "purpose": "`privacy.purpose`.",
    "legal_basis": "`privacy.legal_basis`.",
    "jurisdictions": "`privacy.jurisdictions`.",
    "context": "`privacy.context`.",
    "policy_sha256": "SHA-256 of the policy file that was applied.",
    "policy": "What its rules decided, as JSON, with documented exceptions.",
    "n_minors": "Faces of this run with `minor`; null where `minors.age` is 0.",
}

DRIFT_COLUMNS: Final = {
    "run_id": "The run.",
    "metric": "`night` for the run as a whole, or a value: `share` (mean probability of a label), `age` (years), "
    "`faces_per_photograph`, `brightness`, `blur`, `face_px`, `confidence_of_label`, `confidence` (with the run's mix "
    "of labels), `abstention`, `status` (share of images).",
    "label": "What the value is of, such as `gender/female`; empty where there is nothing to name.",
    "value": "The value; of `night` the number of faces.",
    "n": "The faces or images that it is of; of `night` the number of images.",
    "sampling_sd": "Standard deviation of the value by the choice of photographs.",
    "reference": "Mean of the earlier nights.",
    "reference_nights": "Their number.",
    "change": "`value` minus `reference`.",
    "noise_sd": "Standard deviation of `change` where nothing has changed.",
    "t": "`change` divided by `noise_sd`.",
    "threshold": "The `t` from which on a large change is an alarm.",
    "alarm": "Whether the value has drifted; of `night` whether any has.",
    "kind": "What has probably changed: `photography`, `mix`, `model or quality`, or `input`; null without an alarm.",
    "reason": "Why it was not judged; null where it was.",
    "accepted": "Whether a person said that the change is normal from this run on (`faceattr drift --accept`).",
    "started_at": "When the run started, UTC.",
    "model_version": _PROVENANCE["model_version"],
    "config_id": _PROVENANCE["config_id"],
    "judged_at": "When the row was written, UTC.",
}

TOMBSTONES_COLUMNS: Final = {
    "kind": "`image` for an image_id, `content` for the SHA-256 of a content.",
    "key": "The first half of its HMAC-SHA256 with the key of `privacy.key_file`, 32 hexadecimal digits.",
    "key_id": "Names the key.",
    "erasure_id": "The erasure.",
    "created_at": "When the row was written, UTC.",
}

COLUMNS: Final = {
    "faces": FACES_COLUMNS,
    "image_results": RESULTS_COLUMNS,
    "runs": RUNS_COLUMNS,
    "drift": DRIFT_COLUMNS,
}
"""Table -> column -> description."""
