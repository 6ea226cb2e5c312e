package cli

// endOtherSessions would end the agents of the user's other sessions; each of
// them has a pipe of its own.
func endOtherSessions() error {
	return usage("The agents of other sessions cannot be ended from here yet: sign in to each of them and quit there.")
}
