package trainer

import (
	"context"
	"errors"
	"fmt"
)

// ErrDevice is wrapped by Run's error when a device broke: it was lost, or a fault made
// it unusable for this process. Starting the worker again may help.
var ErrDevice = errors.New("the device broke in the middle of the run")

// savedAt is the round of the newest checkpoint that this worker wrote or was restored
// from.
type savedAt struct {
	round uint64
	any   bool
}

// broken wraps what broke the learner's device.
func (t *Trainer) broken() error {
	if err := t.learner.Err(); err != nil {
		return fmt.Errorf("trainer: round %d, step %d: %w: %w", t.round, t.step, ErrDevice, err)
	}
	return nil
}

// salvage saves the last round's state from what the host has of it: what the
// strategy saves. θ is φ there; the inner moments were on the device, so they begin anew, as a
// joiner's do. Where the newest checkpoint is of this round, or the strategy keeps
// everything on the device, that checkpoint is the better one and stays the newest.
func (t *Trainer) salvage(ctx context.Context) error {
	if t.hooks.Save == nil || !t.outer() || t.saved.any && t.saved.round == t.round {
		return nil
	}
	// Between the step of the host's copy and the count of rounds nothing fails: they fit.
	err := t.hooks.Save(ctx, func(s *Snapshot) error {
		n := t.learner.Parameters()
		t.captureOuter(s)
		s.Step = t.round * t.cfg.InnerSteps
		s.Tokens, s.Updates = t.tokens-t.pending.tokens, 0
		s.RoundSteps, s.RoundTokens, s.RoundLoss, s.Carried = 0, 0, 0, 0
		for _, name := range []string{MomentM, MomentV} {
			var fresh []float32
			s.Vectors, fresh = grow(s.Vectors, name, n)
			clear(fresh)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("trainer: save what the host has of round %d: %w", t.round, err)
	}
	return nil
}
