package process

// UsageError marks an error as the user's to correct: loco exits with code 2.
type UsageError struct{ Err error }

// Usage marks err as the user's to correct.
func Usage(err error) error { return &UsageError{err} }

// Error implements error.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns what was marked.
func (e *UsageError) Unwrap() error { return e.Err }
