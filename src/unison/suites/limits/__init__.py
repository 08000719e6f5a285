"""What can a perfect model do that writes several items at once? Laws of right answers, exactly."""
