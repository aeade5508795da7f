"""Marts: small flat tables over faces and image_results, from which analysts take counts and corrected shares."""
