package mesh

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPause(t *testing.T) {
	for name, c := range map[string]struct {
		ends time.Duration // of the context
		took time.Duration
		want bool
	}{
		"it waits":                 {2 * time.Minute, time.Minute, true},
		"the context ends first":   {time.Second, time.Second, false},
		"the context ended before": {0, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.ends)
				defer cancel()
				start := time.Now()
				if got, took := Pause(ctx, time.Minute), time.Since(start); got != c.want || took != c.took {
					t.Errorf("%v after %v, want %v after %v", got, took, c.want, c.took)
				}
			})
		})
	}
}
