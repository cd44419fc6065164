package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"loco/worker/config"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const strategies = `
set = ["run.rounds=10"]
[[variant]]
name = "alone"
set = ["sync.strategy=alone"]
[[variant]]
name = "diloco"
[[variant]]
name = "noloco"
set = ["sync.strategy=noloco"]
[[variant]]
name = "two"
set = ["run.workers=2", "inner.batch=16"]
`

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "strategies.toml")
	write(t, path, strategies)
	e, err := Load(path, []string{"inner.lr=0.001"})
	if err != nil {
		t.Fatal(err)
	}
	if e.Name != "strategies" || e.Budget != Total || len(e.Variants) != 4 {
		t.Errorf("%+v", e)
	}
	for i, want := range []struct {
		strategy string
		workers  int
		share    bool
	}{{"alone", 1, true}, {"diloco", 4, false}, {"noloco", 4, false}, {"diloco", 2, false}} {
		v := e.Variants[i]
		if v.Config.Sync.Strategy != want.strategy || v.Config.Run.Workers != want.workers || v.Share != want.share || v.Config.Run.Rounds != 10 || v.Config.Inner.LR != 0.001 {
			t.Errorf("%s: %+v", v.Name, v)
		}
	}
	if e.Variants[2].Config.Sync.OuterMomentum != 0.5 {
		t.Error("noloco does not get its own momentum")
	}

	write(t, path, "[[variant]]\nname=\"a\"\n[[variant]]\nname=\"b\"\nset=[\"sync.strategy=noloco\"]")
	if e, err = Load(path, nil); err != nil || e.Variants[0].Config.Run.Time != 0 || e.Variants[1].Config.Run.Rounds != config.Default().Run.Rounds {
		t.Errorf("variants without rounds do not take the default's: %v", err)
	}

	write(t, filepath.Join(dir, "run.toml"), "preset = \"home-60m\"\n[run]\nworkers = 2\n")
	write(t, path, "name = \"big\"\nbase = \"run.toml\"\nbudget = \"per-worker\"\n[[variant]]\nname=\"a\"\n[[variant]]\nname=\"b\"\nset=[\"run.workers=8\"]")
	if e, err = Load(path, nil); err != nil || e.Variants[0].Config.Model.Width != 896 || e.Variants[1].Config.Run.Workers != 8 {
		t.Errorf("base file: %v", err)
	}
	if _, err := Load(filepath.Join(dir, "none.toml"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func TestExperimentErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "bad.toml"), "[run]\nrounds = 0")
	two := func(a, b string) string {
		return fmt.Sprintf("[[variant]]\nname=\"a\"\nset=[%s]\n[[variant]]\nname=\"b\"\nset=[%s]", a, b)
	}
	def := config.Default()
	all, each := def.TotalTokens(), def.TokensPerWorker()
	more := func(tokens uint64) uint64 { return tokens / uint64(def.Run.Rounds) * 999 }
	for _, tc := range []struct{ name, file, want string }{
		{"no variant", `name = "x"`, "exp.toml: variant: an experiment needs 1 to 64 tables [[variant]], each with a name and a list set"},
		{"unknown key", "nam = 1\n[[variant]]\nname=\"a\"", "exp.toml:1: nam: unknown key; allowed: name, base, set, budget, variant"},
		{"unknown key in a variant", "[[variant]]\nname=\"a\"\n[[variant]]\nname=\"b\"\nsets=[]", "exp.toml:5: variant.1.sets: unknown key; allowed: name, set"},
		{"type", "[[variant]]\nname=7", "exp.toml:2: variant.0.name: must be a text of 1 to 1024 bytes\nexp.toml:2: variant.0.name: \"\": a variant needs a name of 1 to 64 letters, digits, dots, dashes or underscores that does not start with a dot"},
		{"list", "[[variant]]\nname=\"a\"\nset=\"x\"", `exp.toml:3: variant.0.set: must be a list of at most 256 texts, such as ["sync.strategy=noloco"]`},
		{"item", "set=[1]\n[[variant]]\nname=\"a\"", `exp.toml:1: set: item 1 must be a text such as "sync.strategy=noloco"`},
		{"path in a name", "[[variant]]\nname=\"../a\"", "exp.toml:2: variant.0.name: \"../a\": a variant needs a name of 1 to 64 letters, digits, dots, dashes or underscores that does not start with a dot"},
		{"twice", "[[variant]]\nname=\"a\"\n[[variant]]\nname=\"A\"", `exp.toml:4: variant.1.name: "A": another variant has this name`},
		{"budget", "budget=\"none\"\n[[variant]]\nname=\"a\"", `exp.toml:1: budget: "none": must be total or per-worker`},
		{"override", two("", `"sync.gama=1"`), "exp.toml:6: variant b: sync.gama = 1: unknown key (did you mean sync.gamma?)"},
		{"gamma", two("", `"sync.strategy=noloco","sync.gamma=1.7"`), "exp.toml:6: variant b: sync.gamma = 1.7: NoLoCo is stable only for 0 < gamma < 2(1 - alpha^2): with sync.outer_momentum (alpha) = 0.5 that is 0 < sync.gamma < 1.5, and sync.gamma is 1.7"},
		{"base file", "base=\"bad.toml\"\n[[variant]]\nname=\"a\"", "exp.toml:2: variant a: " + filepath.Join(dir, "bad.toml") + ":2: run.rounds = 0: must be 1 to 10000000"},
		{"seed", two("", `"run.seed=2"`), "exp.toml:4: variant b: run.seed = 2, variant a has 1: the seed must be the same"},
		{"data", two("", `"data.heldout=0.1"`), "exp.toml:4: variant b: [data] and run.eval_tokens must be those of variant a, or the losses are of different texts"},
		{"inner time", two("", `"sync.inner_time=1m"`), "exp.toml:4: variant b: sync.inner_time = 1m: how many tokens it trains depends on the machine, so no budget is equal; leave it at 0s"},
		{"time", two("", `"run.time=1m"`), "exp.toml:4: variant b: run.time = 1m: how many tokens it trains depends on the machine, so no budget is equal; set run.rounds"},
		{"warmup", two("", `"inner.warmup=3601"`), "exp.toml:6: variant b: inner.warmup = 3601: inner.warmup = 3601 must be at most the run's 3600 steps (run.rounds x sync.inner_steps)"},
		{"tokens", two("", `"run.rounds=999"`), fmt.Sprintf("exp.toml:4: variant b: trains %d tokens, variant a trains %d ", more(all), all) + "(budget = \"total\": workers x rounds x inner_steps x batch x context; change run.rounds or inner.batch)"},
		{"share of a worker", two("", `"sync.strategy=alone","run.rounds=999"`), fmt.Sprintf("exp.toml:4: variant b: trains %d tokens, variant a trains %d ", more(each), all) + "(budget = \"total\": workers x rounds x inner_steps x batch x context; change run.rounds or inner.batch)"},
		{"per worker", "budget=\"per-worker\"\n" + two("", `"inner.batch=999"`), fmt.Sprintf("exp.toml:5: variant b: trains %d tokens, variant a trains %d ", each/uint64(def.Inner.Batch)*999, each) + "(budget = \"per-worker\": workers x rounds x inner_steps x batch x context; change run.rounds or inner.batch)"},
	} {
		_, err := parse("exp.toml", []byte(tc.file), dir, nil)
		var mistakes *config.Error
		if !errors.As(err, &mistakes) || err.Error() != tc.want {
			t.Errorf("%s:\n got %v\nwant %s", tc.name, err, tc.want)
		}
	}
	_, err := parse("exp.toml", []byte("base=\"nope\"\n[[variant]]\nname=\"a\""), dir, nil)
	if err == nil || !strings.HasPrefix(err.Error(), `exp.toml:1: base: "nope" is neither a preset nor a file: `) {
		t.Errorf("base: %v", err)
	}
}

// train writes what a run would leave.
func train(t *testing.T, dir, strategy string, workers, rounds int, loss float64) {
	t.Helper()
	for k := range workers {
		var b strings.Builder
		for round := 1; round <= rounds; round++ {
			fmt.Fprintf(&b, `{"event":"round","worker":%d,"round":%d,"seconds":{"inner":1}}`+"\n", k, round)
			fmt.Fprintf(&b, `{"event":"eval","worker":%d,"round":%d,"step":1,"tokens":%d,"heldout_loss":%g,"more":1}`+"\n", k, round, 1000*round, loss+1/float64(round)+0.01*float64(k))
		}
		write(t, filepath.Join(dir, fmt.Sprintf("worker-%d", k), "metrics.jsonl"), b.String())
	}
	write(t, filepath.Join(dir, "summary.json"), fmt.Sprintf(`{"complete":true,"strategy":%q,"codec":"int8","workers":%d,"rounds":%d,"tokens":%d,"heldout_loss":%g,
		"tokens_per_second":12345,"bytes_sent":%d,"compute_utilisation":0.93,"replica_std":0.002,"parameters":250000,"seconds":61.5,"future":[1]}`,
		strategy, workers, rounds, 1000*rounds*workers, loss+1/float64(rounds), 8_000_000*workers))
}

func TestRunReusesWhatIsFinished(t *testing.T) {
	dir := t.TempDir()
	e, err := parse("exp.toml", []byte(strategies), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	var trained []string
	var phases []Phase
	fail := "noloco"
	o := Options{
		Dir:    filepath.Join(dir, "out"),
		Digest: func(context.Context, config.Config) (string, error) { return "d1", nil },
		Train: func(_ context.Context, v Variant, folder string) error {
			trained = append(trained, v.Name)
			if v.Name == fail {
				return errors.New("no power")
			}
			train(t, folder, v.Config.Sync.Strategy, v.Config.Run.Workers, v.Config.Run.Rounds, 2)
			return nil
		},
		Progress: func(p Progress) { phases = append(phases, p.Phase) },
	}
	report, err := e.Run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "compare: variant noloco: no power") {
		t.Errorf("got %v", err)
	}
	if len(report.Rows) != 4 || report.Rows[2].Err == nil || report.Rows[3].Result.Summary.Workers != 2 || !report.Rows[0].Share {
		t.Errorf("%+v", report.Rows)
	}
	if want := []Phase{Training, Finished, Training, Finished, Training, Failed, Training, Finished}; !reflect.DeepEqual(phases, want) {
		t.Errorf("phases %v", phases)
	}
	trained, fail = nil, ""
	if report, err = e.Run(t.Context(), o); err != nil || !reflect.DeepEqual(trained, []string{"noloco"}) || !report.Rows[0].Reused || report.Rows[2].Reused {
		t.Errorf("second call trained %v, %v", trained, err)
	}
	// Other data is another result.
	trained = nil
	o.Digest = func(context.Context, config.Config) (string, error) { return "d2", nil }
	if _, err = e.Run(t.Context(), o); err != nil || len(trained) != 4 {
		t.Errorf("other data trained %v, %v", trained, err)
	}
	// A run that stopped early is not finished, and is not believed to be.
	trained = nil
	write(t, filepath.Join(e.Variants[1].Folder(o.Dir, "d2"), "summary.json"), `{"complete":false,"heldout_loss":null,"tokens":1,"rounds":3,"workers":4,"strategy":"diloco"}`)
	o.Train = func(_ context.Context, v Variant, _ string) error { trained = append(trained, v.Name); return nil }
	if _, err = e.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "stopped after 3 of 10 rounds") || !reflect.DeepEqual(trained, []string{"diloco"}) {
		t.Errorf("interrupted: trained %v, %v", trained, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if report, err = e.Run(ended, o); !errors.Is(err, context.Canceled) || len(report.Rows) != 0 {
		t.Errorf("cancelled: %v", err)
	}
}

func TestKey(t *testing.T) {
	a := Variant{Name: "a", Config: config.Default()}
	b := a
	b.Config.Run.EvalTokens *= 2
	c := a
	c.Config.Metrics.Listen = ""
	if a.Key("d") == b.Key("d") || a.Key("d") != c.Key("d") || a.Key("d") == a.Key("e") {
		t.Error("the key is not that of what the result depends on")
	}
	if got := filepath.Base(a.Folder("x", "d")); len(got) != len("a-")+keyDigits {
		t.Errorf("folder %s", got)
	}
}

func TestReadRun(t *testing.T) {
	dir := t.TempDir()
	train(t, dir, "noloco", 3, 4, 2)
	r, err := ReadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Points) != 4 || r.Points[0].Tokens != 3000 || !(math.Abs(r.Points[3].Loss-2.26) <= 1e-9) {
		t.Errorf("%+v", r.Points) // 2 + 1/4 + mean(0, 0.01, 0.02)
	}
	if s := r.Summary; s.Perplexity != math.Exp(2.25) || s.Tokens != 12000 || s.Workers != 3 || !s.Complete || s.BytesSent != 24_000_000 {
		t.Errorf("%+v", s)
	}
	metrics := filepath.Join(dir, "worker-1", "metrics.jsonl")
	for _, tc := range []struct{ name, text, want string }{
		{"cut short at the end", `{"event":"eval","round":1,"tokens":1000,"heldout_loss":3}` + "\n" + `{"event":"ev`, ""},
		{"cut short and continued", `{"event":"ev{"event":"eval","round":1,"tokens":1000,"heldout_loss":3}` + "\n\n", ""},
		{"again after a restart", `{"event":"eval","round":1,"tokens":9,"heldout_loss":9}` + "\n" + `{"event":"eval","round":1,"tokens":1000,"heldout_loss":3}`, ""},
		{"garbage", "hello\n{}\n", "metrics.jsonl:1: invalid character"},
		{"no round", `{"event":"eval","tokens":1}` + "\n", "metrics.jsonl:1: an evaluation without round or tokens"},
		{"wrong type", `{"event":"eval","round":"x"}` + "\n", "metrics.jsonl:1: json: cannot unmarshal string"},
		{"long line", strings.Repeat("x", lineBytesMax+1), "metrics.jsonl:1: line of more than 1048576 bytes"},
	} {
		write(t, metrics, tc.text)
		r, err := ReadRun(dir)
		if tc.want != "" {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
			}
			continue
		}
		if err != nil || len(r.Points) != 4 || !(math.Abs(r.Points[0].Loss-(3+0.02+6)/3-0) <= 0.01) || r.Points[0].Tokens != 3000 {
			t.Errorf("%s: %v %+v", tc.name, err, r.Points)
		}
	}
	if err := os.RemoveAll(filepath.Dir(metrics)); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{`: "unexpected end", `[]`: "cannot unmarshal", `{"tokens":1}`: "heldout_loss is missing",
		`{"heldout_loss":1,"tokens":1,"rounds":1,"strategy":"x","workers":0}`:  "workers is 0",
		`{"heldout_loss":1,"tokens":-1,"rounds":1,"strategy":"x","workers":1}`: "cannot unmarshal number -1",
		strings.Repeat(" ", summaryBytesMax+1):                                 "larger than",
	} {
		write(t, filepath.Join(dir, "summary.json"), text)
		if _, err := ReadRun(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %s", text, err, want)
		}
	}
	if _, err := ReadRun(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no run: %v", err)
	}
}

func report() Report {
	row := func(name string, loss float64, share bool) Row {
		s := Summary{Complete: true, Strategy: name, Codec: "int8", Workers: 4, Parameters: 250000, Rounds: 15, Tokens: 1228800, TokensPerSecond: 23456.7,
			HeldoutLoss: loss, Perplexity: math.Exp(loss), ComputeUtilisation: 0.934, BytesSent: 4 * 7_654_321, Seconds: 52.4, ReplicaStd: 0.00123}
		r := Row{Variant: name, Share: share, Dir: "/x/" + name + "-0123456789ab", Result: Result{Summary: s}}
		for i := 1; i <= 15; i++ {
			r.Result.Points = append(r.Result.Points, Point{uint64(i) * 81920, loss + 3/float64(i)})
		}
		return r
	}
	diverged := row("hot", math.NaN(), false)
	diverged.Result.Points = diverged.Result.Points[:2]
	return Report{Name: "strategies on Go's source", Rows: []Row{row("ddp", 2, false), row("noloco", 2.05, false), row("alone", 2.4, true), diverged,
		{Variant: "lost", Dir: "/x/lost-1", Err: errors.New("no power")}}}
}

func TestTable(t *testing.T) {
	r := report()
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	want := `variant  strategy  workers  rounds  tokens  held-out loss  perplexity  gap to best  tokens/s  sent/worker  compute  replica std
ddp      ddp             4      15   1.23M         2.0000       7.389      +0.00 %     23.5k       7.65MB   93.4 %      0.00123
noloco   noloco          4      15   1.23M         2.0500       7.768      +2.50 %     23.5k       7.65MB   93.4 %      0.00123
alone *  alone           4      15   1.23M         2.4000      11.023     +20.00 %     23.5k       7.65MB   93.4 %      0.00123
hot      hot             4      15   1.23M              -           -            -     23.5k       7.65MB   93.4 %      0.00123
lost     failed

* alone, on one worker's share of the tokens

failed: lost: no power
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestShort(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 1: "1", 12.34: "12.3", 999: "999", 999.6: "1k", 1000: "1k", 1228800: "1.23M", 5e9: "5G", 2e17: "200P"} {
		if got := short(x); got != want {
			t.Errorf("short(%g) = %s, want %s", x, got, want)
		}
	}
}

func TestSave(t *testing.T) {
	r, dir := report(), filepath.Join(t.TempDir(), "out")
	for range 2 { // the second time it replaces
		if err := r.Save(dir); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.csv"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	want := []string{
		"variant,strategy,codec,workers,rounds,tokens,heldout_loss,perplexity,gap_percent,tokens_per_second,bytes_sent_per_worker,compute_utilisation,replica_std,seconds,parameters,one_worker_share,folder,error",
		"ddp,ddp,int8,4,15,1228800,2,7.38905609893065,0,23456.7,7654321,0.934,0.00123,52.4,250000,false,ddp-0123456789ab,",
	}
	if !reflect.DeepEqual(lines[:2], want) || len(lines) != 6 || !strings.HasSuffix(lines[5], ",lost-1,no power") || !strings.Contains(lines[4], "1228800,,,,23456.7") {
		t.Errorf("got\n%s", text)
	}
	f, err := os.Open(filepath.Join(dir, "curves.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil || picture.Bounds().Dx() != chartWidth || picture.Bounds().Dy() != chartHeight {
		t.Fatalf("%v %v", picture.Bounds(), err)
	}
	seen := map[[3]uint32]int{}
	for y := range chartHeight {
		for x := range chartWidth {
			r, g, b, _ := picture.At(x, y).RGBA()
			seen[[3]uint32{r >> 8, g >> 8, b >> 8}]++
		}
	}
	for i := range 3 {
		r, g, b, _ := palette(i).RGBA()
		if n := seen[[3]uint32{r >> 8, g >> 8, b >> 8}]; n < 300 {
			t.Errorf("curve %d has %d pixels", i, n)
		}
	}
	if items, err := os.ReadDir(dir); err != nil || len(items) != 2 {
		t.Errorf("%d files, %v", len(items), err)
	}
}

func TestChartScales(t *testing.T) {
	r := report()
	for i := range r.Rows { // four decades of tokens, and a loss that falls by more than four
		for j := range r.Rows[i].Result.Points {
			p := &r.Rows[i].Result.Points[j]
			*p = Point{p.Tokens * uint64(math.Pow(2, float64(j))), 10 / float64(j+1)}
		}
	}
	var b bytes.Buffer
	if err := r.WriteChart(&b); err != nil || b.Len() == 0 {
		t.Errorf("logarithmic: %v", err)
	}
	one := Report{Rows: []Row{{Variant: "a", Result: Result{Points: []Point{{0, 5}, {1000, 2}, {2000, math.NaN()}, {3000, math.Inf(1)}}}}}}
	if err := one.WriteChart(&b); err != nil {
		t.Errorf("one point: %v", err)
	}
	if err := (&Report{}).WriteChart(&b); err == nil {
		t.Error("an empty chart is drawn")
	}
	for _, tc := range []struct {
		t      ticks
		lo, hi float64
		want   string
	}{
		{ticks{log: true}, 900, 60000, "1k 2k 5k 10k 20k 50k"},
		{ticks{}, 30000, 1260000, "200k 400k 600k 800k 1M 1.2M"},
		{ticks{}, 1.501, 1.5095, "1.501 1.502 1.503 1.504 1.505 1.506 1.507 1.508 1.509"},
		{ticks{}, 2, 5.4, "2 2.5 3 3.5 4 4.5 5"},
	} {
		var labels []string
		for _, mark := range tc.t.Ticks(tc.lo, tc.hi) {
			labels = append(labels, mark.Label)
		}
		if got := strings.Join(labels, " "); got != tc.want {
			t.Errorf("ticks %v from %g to %g: %s, want %s", tc.t, tc.lo, tc.hi, got, tc.want)
		}
	}
}

func FuzzParseEvals(f *testing.F) {
	f.Add([]byte(`{"event":"eval","round":1,"tokens":9,"heldout_loss":9}` + "\n" + `{"event":"ev{"event":"round"}` + "\n"))
	f.Add([]byte(`{"event":"eval","round":1,"tokens":9,"heldout_loss":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		evals, err := parseEvals(bytes.NewReader(data))
		if err != nil {
			return
		}
		for round, e := range evals {
			if e.Round == nil || *e.Round != round || e.Tokens == nil {
				t.Fatalf("%d: %+v", round, e)
			}
		}
	})
}

// parse is Load of a file's bytes; base is looked up in dir.
func parse(name string, data []byte, dir string, sets []string) (*Experiment, error) {
	doc, err := config.ParseDocument(name, data)
	if err != nil {
		return nil, err
	}
	return read(doc, dir, sets)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(strategies))
	f.Add([]byte("variant = [{name = \"a\"}, 3]"))
	f.Add([]byte("base = \"/dev/null\"\n[[variant]]\nname=\"b\"\n[[variant.set]]"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(data, []byte("base")) {
			return // names a file; the fuzzer has no business opening what it makes up
		}
		e, err := parse("exp.toml", data, dir, nil)
		var mistakes *config.Error
		switch {
		case err == nil && len(e.Variants) > 0:
		case errors.As(err, &mistakes) && len(mistakes.Problems) > 0:
		default:
			t.Fatalf("%v %v", e, err)
		}
	})
}

func FuzzParseSummary(f *testing.F) {
	f.Add([]byte(`{"complete":true,"heldout_loss":null,"tokens":1,"rounds":3,"workers":4,"strategy":"diloco","bytes_sent":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseSummary(data)
		if err != nil {
			return
		}
		if s.Workers < 1 || s.Workers > workersMax {
			t.Fatalf("%+v", s)
		}
		r := Report{Rows: []Row{{Variant: "x", Result: Result{Summary: s}}}}
		if err := errors.Join(r.WriteTable(&bytes.Buffer{}), r.WriteCSV(&bytes.Buffer{})); err != nil {
			t.Fatal(err)
		}
	})
}
