package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"loco/trainer"
	"loco/worker"
)

// Every event that a worker prints is read back as it was.
func TestEventsParseBack(t *testing.T) {
	std := 0.5
	for _, want := range []any{
		&AddressEvent{Event: "address", Worker: 1, Peer: "p", Addrs: []string{"/a", "/b"}, Metrics: "m"},
		&worker.PeersEvent{Event: "peers", Worker: 1, Live: 3, Ready: 2},
		&CheckpointEvent{Event: "checkpoint", Worker: 1, Round: 2, Path: "x", Bytes: 3, Seconds: 0.5},
		&ResultEvent{Event: "result", Worker: 1, Complete: true, Round: 2, Step: 3, Tokens: 4, SessionTokens: 5, Digest: "d", Seconds: 0.5, InnerSeconds: 0.25, BytesSent: 6, BytesReceived: 7, Checkpoint: "c"},
		&worker.LateEvent{Event: "late", Worker: 1, Round: 2, Who: 3, Late: true, By: 0.5},
		&trainer.RoundEvent{Event: "round", Worker: 1, Round: 2, Members: []int{1, 2}, TrainLoss: 0.5, Digest: "d", Seconds: trainer.Seconds{Inner: 0.5, Outer: 0.25}, ReplicaStd: &std},
		&trainer.EvalEvent{Event: "eval", Worker: 1, Round: 2, HeldoutLoss: 0.5, Seconds: 0.25},
		&trainer.StepEvent{Event: "step", Worker: 1, Step: 2, Loss: 0.5, Seconds: 0.25},
		&trainer.ResyncEvent{Event: "resync", Worker: 1, Why: "w", FromRound: 2, Round: 3, LostSteps: 4, Digest: "d"},
	} {
		line, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseEvent(line); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is read as %+v, %v", line, got, err)
		}
	}
	if e, err := ParseEvent([]byte(`{"event":"of a later version"}`)); e != nil || err != nil {
		t.Errorf("an unknown event is %v, %v", e, err)
	}
	for _, line := range []string{`{"event":"round"`, `{"event":"round","round":"two"}`} {
		if e, err := ParseEvent([]byte(line)); e != nil || err == nil || !strings.Contains(err.Error(), "event ") {
			t.Errorf("%s is read as %v, %v", line, e, err)
		}
	}
}

// What a user has to correct stays what it was.
func TestUsageErrors(t *testing.T) {
	why := errors.New("why")
	err := fmt.Errorf("around: %w", Usage(why))
	var usage *UsageError
	if !errors.As(err, &usage) || !errors.Is(err, why) || usage.Error() != "why" {
		t.Errorf("%v", err)
	}
	if errors.As(why, &usage) {
		t.Error("any error is the user's to correct")
	}
}

func TestFormats(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 999: "999", 1000: "1k", 12345: "12.3k", 1e6: "1M", 2.5e9: "2.5G", 1e12: "1T"} {
		if got := FormatCount(x); got != want {
			t.Errorf("%v is written %s, want %s", x, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 1_500_000: "1.5 MB"} {
		if got := FormatBytes(n); got != want {
			t.Errorf("%d bytes are written %s, want %s", n, got, want)
		}
	}
}
