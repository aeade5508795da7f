"""Face crops -> perceived age, gender, ethnicity and emotion."""
