package checkpoint

import (
	"errors"
	"testing"
)

// A run that stops amid a round that it has just saved writes that round again, with more
// steps in it. With keep = 1 the old copy is the only checkpoint. Whatever operation
// fails, and wherever the process dies, the next one finds the old copy or the new one.
func TestARoundSavedAgainIsNeverLost(t *testing.T) {
	for _, crash := range []bool{false, true} {
		for n := 1; ; n++ {
			dir := quick(t)
			fs := &faultyDisk{crash: crash}
			w := open(t, local{Dir: dir, Keep: 1}, fs)
			if err := save(t, w, sample(5)); err != nil {
				t.Fatal(err)
			}
			fs.mu.Lock()
			fs.failAt = len(fs.ops) + n
			fs.mu.Unlock()
			later := sample(5)
			later.Step++
			saveErr := save(t, w, later)
			_ = w.Close(limit(t))
			fs.mu.Lock()
			reached := len(fs.ops) >= fs.failAt
			fs.mu.Unlock()
			if reached && saveErr != nil && !errors.Is(saveErr, errInjected) {
				t.Errorf("n=%d crash=%v: %v", n, crash, saveErr)
			}
			next := open(t, local{Dir: dir, Keep: 1}, realFiles{}) // sweeps
			got, _, skipped, err := newestIn(dir)
			if err != nil || len(skipped) > 0 {
				t.Errorf("n=%d crash=%v: the round is lost: %v %v", n, crash, skipped, err)
			} else if got.Step != later.Step && (saveErr == nil || got.Step != later.Step-1) {
				t.Errorf("n=%d crash=%v: step %d after %v", n, crash, got.Step, saveErr)
			}
			_ = next.Close(limit(t))
			if !reached {
				break
			}
		}
	}
}
