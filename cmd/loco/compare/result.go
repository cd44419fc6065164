package compare

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Limits on what a run's folder may hold.
const (
	summaryBytesMax = 1 << 20
	lineBytesMax    = 1 << 20
	evalsMax        = 1 << 20 // evaluations of one worker
	workersMax      = 100000
)

// Result is what a run left in its folder.
type Result struct {
	Summary Summary
	Points  []Point // by tokens
}

// Point is one evaluation: the mean of the workers that evaluated in that round.
type Point struct {
	Tokens uint64  // trained by all workers until then
	Loss   float64 // nats per token, on held-out data
}

// Summary is summary.json, in its units. What is not in the file is zero; a loss that
// is null there is NaN.
type Summary struct {
	Complete           bool // true when the file does not say
	Strategy, Codec    string
	Workers            int
	Parameters, Rounds uint64
	Tokens             uint64 // trained by all workers
	TokensPerSecond    float64
	HeldoutLoss        float64 // nats per token
	Perplexity         float64
	ComputeUtilisation float64 // share of the time in inner steps
	BytesSent          uint64  // by all workers
	Seconds            float64
	ReplicaStd         float64
}

// ReadRun reads DIR/summary.json and the evaluations in DIR/worker-*/metrics.jsonl.
func ReadRun(dir string) (Result, error) {
	s, err := readSummary(filepath.Join(dir, "summary.json"))
	if err != nil {
		return Result{}, err
	}
	points, err := readPoints(dir, s.Workers)
	return Result{Summary: s, Points: points}, err
}

func readSummary(path string) (Summary, error) {
	f, err := os.Open(path)
	if err != nil {
		return Summary{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, summaryBytesMax+1))
	if err != nil {
		return Summary{}, err
	}
	if len(text) > summaryBytesMax {
		return Summary{}, fmt.Errorf("%s: larger than %d bytes", path, summaryBytesMax)
	}
	s, err := parseSummary(text)
	if err != nil {
		return Summary{}, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func parseSummary(text []byte) (Summary, error) {
	var present map[string]json.RawMessage
	if err := json.Unmarshal(text, &present); err != nil {
		return Summary{}, err
	}
	for _, key := range []string{"heldout_loss", "tokens", "rounds", "workers", "strategy"} {
		if _, ok := present[key]; !ok {
			return Summary{}, fmt.Errorf("%s is missing", key)
		}
	}
	raw := struct {
		Complete           *bool    `json:"complete"`
		Strategy           string   `json:"strategy"`
		Codec              string   `json:"codec"`
		Workers            int      `json:"workers"`
		Parameters         uint64   `json:"parameters"`
		Rounds             uint64   `json:"rounds"`
		Tokens             uint64   `json:"tokens"`
		TokensPerSecond    float64  `json:"tokens_per_second"`
		HeldoutLoss        *float64 `json:"heldout_loss"`
		Perplexity         *float64 `json:"perplexity"`
		ComputeUtilisation float64  `json:"compute_utilisation"`
		BytesSent          uint64   `json:"bytes_sent"`
		Seconds            float64  `json:"seconds"`
		ReplicaStd         float64  `json:"replica_std"`
	}{}
	if err := json.Unmarshal(text, &raw); err != nil {
		return Summary{}, err
	}
	if raw.Workers < 1 || raw.Workers > workersMax {
		return Summary{}, fmt.Errorf("workers is %d, must be 1 to %d", raw.Workers, workersMax)
	}
	s := Summary{
		Complete: raw.Complete == nil || *raw.Complete, Strategy: raw.Strategy, Codec: raw.Codec, Workers: raw.Workers,
		Parameters: raw.Parameters, Rounds: raw.Rounds, Tokens: raw.Tokens, TokensPerSecond: raw.TokensPerSecond,
		HeldoutLoss: orNaN(raw.HeldoutLoss), ComputeUtilisation: raw.ComputeUtilisation,
		BytesSent: raw.BytesSent, Seconds: raw.Seconds, ReplicaStd: raw.ReplicaStd,
	}
	s.Perplexity = math.Exp(s.HeldoutLoss)
	if raw.Perplexity != nil {
		s.Perplexity = *raw.Perplexity
	}
	return s, nil
}

func orNaN(x *float64) float64 {
	if x == nil {
		return math.NaN()
	}
	return *x
}

// eval is the part of an evaluation's line that is used here.
type eval struct {
	Event  string   `json:"event"`
	Round  *uint64  `json:"round"`
	Tokens *uint64  `json:"tokens"`
	Run    float64  `json:"run_tokens"` // of all workers; 0 where the record does not say
	Loss   *float64 `json:"heldout_loss"`
}

// readPoints merges the evaluations of all workers by round.
func readPoints(dir string, workers int) ([]Point, error) {
	items, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	type sum struct{ tokens, run, loss, n float64 }
	rounds := map[uint64]sum{}
	for _, item := range items {
		if !item.IsDir() || !strings.HasPrefix(item.Name(), "worker-") {
			continue
		}
		evals, err := readEvals(filepath.Join(dir, item.Name(), "metrics.jsonl"))
		if err != nil {
			return nil, err
		}
		for round, e := range evals {
			s := rounds[round]
			rounds[round] = sum{s.tokens + float64(*e.Tokens), max(s.run, e.Run), s.loss + orNaN(e.Loss), s.n + 1}
		}
	}
	points := make([]Point, 0, len(rounds))
	for _, s := range rounds {
		tokens := s.run
		if tokens == 0 { // a worker counts its own; the workers train alike
			tokens = s.tokens / s.n * float64(workers)
		}
		points = append(points, Point{Tokens: uint64(math.Round(tokens)), Loss: s.loss / s.n})
	}
	sort.Slice(points, func(i, j int) bool { return points[i].Tokens < points[j].Tokens })
	return points, nil
}

// readEvals returns a worker's evaluations by round, the last line of a round winning:
// a worker that was restarted does some rounds again.
func readEvals(path string) (map[uint64]eval, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a worker that never got to its first report
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	evals, err := parseEvals(f)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	return evals, nil
}

// parseEvals reads lines of JSON. Errors start with the line's number.
func parseEvals(in io.Reader) (map[uint64]eval, error) {
	evals := map[uint64]eval{}
	r := bufio.NewReaderSize(in, lineBytesMax)
	for number := 1; ; number++ {
		line, err := r.ReadSlice('\n')
		last := errors.Is(err, io.EOF)
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("%d: line of more than %d bytes", number, lineBytesMax)
		}
		if err != nil && !last {
			return nil, fmt.Errorf("%d: %w", number, err)
		}
		line = bytes.TrimSpace(line)
		if len(line) > 0 {
			e, ok, err := parseEval(line)
			switch {
			case err != nil && !last: // a crash may cut the last line short
				return nil, fmt.Errorf("%d: %w", number, err)
			case err == nil && ok:
				evals[*e.Round] = e
			}
		}
		if len(evals) > evalsMax {
			return nil, fmt.Errorf("%d: more than %d evaluations", number, evalsMax)
		}
		if last {
			return evals, nil
		}
	}
}

// parseEval reads one line; ok is false for other events. A line that was cut short
// by a crash and continued by the next process counts for its second part.
func parseEval(line []byte) (e eval, ok bool, err error) {
	start := []byte(`{"event"`)
	if cut := bytes.LastIndex(line, start); cut > 0 && !json.Valid(line) {
		line = line[cut:]
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return eval{}, false, err
	}
	if e.Event != "eval" {
		return eval{}, false, nil
	}
	if e.Round == nil || e.Tokens == nil {
		return eval{}, false, errors.New("an evaluation without round or tokens")
	}
	return e, true, nil
}
