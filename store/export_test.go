package store

import "time"

// SetLaterBy has writes that nobody waits for wait that long for company. Run must not have begun.
func (b *Bolt) SetLaterBy(d time.Duration) { b.commit.laterBy = d }

// SetLaterBy has writes that nobody waits for wait that long for company. Run must not have begun.
func (s *Redis) SetLaterBy(d time.Duration) { s.write.laterBy = d }

// Kept is how many changes wait for a server that is away.
func (s *Redis) Kept() int {
	s.write.turn.Lock()
	defer s.write.turn.Unlock()
	return s.write.kept.len()
}

// DialogKey is where the call of a dialog stands.
func (s *Redis) DialogKey(callID string) string { return s.dialogKey(callID) }
