package sip

// Transactions counts the exchanges that the agent remembers: those under way and those kept to answer repeats.
func (a *Agent) Transactions() int {
	n := 0
	for _, s := range a.shards {
		s.mu.Lock()
		n += len(s.servers) + s.answers.count() + len(s.acks) + len(s.clients) + len(s.invites)
		s.mu.Unlock()
	}
	return n
}
