package mesh

import (
	"context"
	"time"
)

// Pause waits for d, or until ctx ends. It reports whether ctx has not ended first.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
