package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"loco/gossip/exchange"
	"loco/gossip/transfer"
	"loco/mesh"
)

const (
	fetchTries    = 8 // of a state, when its sources went away or moved on
	catchUpsMax   = 3 // before the others are asked to wait in their round
	catchUpsClose = 1 // rounds that a joiner may lack when it says that it comes
	resultsAtOnce = 8
	followMin     = 5 * time.Millisecond
)

// errMoved is for a fetch that must begin anew from a newer state.
var errMoved = errors.New("its result is not kept any more: keep more of them, or give joiners more upload")

// errForked is for one whose sources are gone, and the members that are left have forked off.
var errForked = errors.New("the members that can be reached are not of the lineage of the state that was fetched")

// fetching is one fetch of a state.
type fetching struct {
	*sessions
	want    exchange.Want
	fetched exchange.Fetched
	base    exchange.Mark // the state that the results go on from
	next    uint64        // the round whose result is lacking next
	kept    uint64        // rounds that the member furthest on keeps

	notes     sync.Mutex
	size      int64            // bytes of the results
	distrusts map[mesh.ID]bool // served what is not what the group agreed on
}

// fetch gets the state of the run, tries again while there are members that answer, and
// removes what an interrupted fetch has left.
func (s *states) fetch(ctx context.Context, want exchange.Want) (exchange.Fetched, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var err error
	distrusts := map[mesh.ID]bool{}
	for range fetchTries {
		f := &fetching{sessions: s.newSessions(ctx), want: want, distrusts: distrusts}
		again, tryErr := f.try()
		f.close()
		if tryErr == nil {
			s.log.reset(based(&f.fetched))
			if err := removePartials(s.cfg.StateDir); err != nil {
				s.cfg.Logger.Warn("gossip: remove what was fetched", "error", err)
			}
			return f.fetched, nil
		}
		if err = tryErr; !again || ctx.Err() != nil || !mesh.Pause(ctx, s.cfg.Grace/8) {
			break
		}
		s.cfg.Logger.Warn("gossip: fetch the state again", "error", err)
	}
	return exchange.Fetched{}, fmt.Errorf("gossip: fetch the state: %w", err)
}

// based returns the results with the states that they are steps from.
func based(f *exchange.Fetched) []exchange.Result {
	for i, r := range f.Results {
		for _, m := range append([]exchange.Mark{{Round: f.Round, Digest: f.Digest}}, f.Past...) {
			if m.Round == r.Round {
				f.Results[i].Base = m.Digest
			}
		}
	}
	return f.Results
}

// try is one try. It may help to try again once somebody has answered.
func (f *fetching) try() (again bool, err error) {
	voices, err := f.survey(f.members(), transfer.Ask{})
	if err != nil && len(voices) == 0 {
		return false, err
	}
	if !slices.ContainsFunc(voices, func(v transfer.Voice) bool { return v.Ready }) {
		return false, errors.Join(exchange.ErrNobody, err)
	}
	if !f.replicas {
		return true, f.fetchReplica(voices)
	}
	lineage := transfer.Agree(voices)
	agreed, ok := transfer.Newest(lineage)
	if !ok {
		return true, fmt.Errorf("%d members agree on no state", len(lineage))
	}
	if f.goOnFromOwn(lineage, agreed) {
		if f.want.Moments {
			f.fetchMoments(f.ctx, lineage)
		}
	} else {
		if err := f.fetchAndFollow(lineage); err != nil {
			return true, err
		}
	}
	return true, f.comeIn()
}

// members are those that may be asked: alive, ready, and not found out.
func (f *fetching) members() []mesh.Member {
	members, _ := f.cfg.Mesh.View()
	f.notes.Lock()
	defer f.notes.Unlock()
	return slices.DeleteFunc(slices.Clone(members), func(m mesh.Member) bool {
		return m.ID == f.cfg.Mesh.Self() || !m.Ready || m.State != mesh.Alive && m.State != mesh.Suspect || f.distrusts[m.ID]
	})
}

// goOnFromOwn says that the results since this worker's own state are kept, and are fewer
// bytes than a whole state.
func (f *fetching) goOnFromOwn(lineage []transfer.Voice, agreed exchange.Mark) bool {
	own := f.want.Own
	digest, ok := transfer.Agreed(lineage, own.Round)
	if f.want.Length == 0 || !ok || digest != own.Digest || own.Round > agreed.Round || !replayable(lineage, own.Round) {
		return false
	}
	if bytes := int64(f.cfg.Codec.EncodedLen(f.want.Length)); int64(agreed.Round-own.Round)*bytes > 8*int64(f.want.Length) {
		return false
	}
	f.fetched.State = exchange.State{Mark: own}
	f.base, f.next = own, own.Round
	return true
}

// replayable says that members keep the results of all rounds from this one to the newest state
// that they agree on. One that stands at this round itself leads nowhere.
func replayable(lineage []transfer.Voice, round uint64) bool {
	newest, ok := transfer.Newest(lineage)
	if !ok || round > newest.Round {
		return false
	}
	for round < newest.Round {
		reach := round
		for _, v := range lineage {
			if v.Oldest <= round {
				reach = max(reach, v.Round)
			}
		}
		if reach == round {
			return false
		}
		round = reach
	}
	return true
}

// fetchAndFollow fetches a state, and the results that are committed meanwhile.
func (f *fetching) fetchAndFollow(lineage []transfer.Voice) error {
	m, sources, err := f.choose(lineage)
	if err != nil {
		return err
	}
	f.base, f.next = exchange.Mark{Round: m.Round, Digest: m.Digest}, m.Round
	ctx, cancel := context.WithCancelCause(f.ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.follow(ctx); err != nil {
			cancel(err)
		}
	})
	o, err := f.gather(ctx, m, sources)
	if err == nil && f.want.Moments {
		f.fetchMoments(ctx, lineage)
	}
	moved := context.Cause(ctx)
	cancel(nil)
	wg.Wait()
	if errors.Is(moved, errMoved) {
		return moved
	}
	if err == nil {
		f.fetched.State = o.state()
	}
	return err
}

// follow fetches results as they are committed, several times in the time in which as many
// rounds pass as are kept. It returns when a round is not kept any more, or ctx ends.
func (f *fetching) follow(ctx context.Context) error {
	every := f.cfg.Grace / 64
	for mesh.Pause(ctx, every) {
		lacking, err := f.catchUp(ctx, transfer.Ask{})
		switch {
		case errors.Is(err, errMoved):
			return err
		case err != nil: // nobody can be reached now
		case 4*lacking > f.kept:
			every = max(every/2, followMin)
		case 16*lacking < f.kept:
			every = min(2*every, f.cfg.Grace/2)
		}
	}
	return nil
}

// comeIn fetches the results that are lacking, tells the others to wait for this worker,
// and fetches those of the moment in between.
func (f *fetching) comeIn() error {
	coming, failures := false, 0
	for n := 1; ; n++ {
		lacking, err := f.catchUp(f.ctx, transfer.Ask{Coming: coming})
		switch {
		case err == nil && coming:
			return nil
		case err == nil:
			coming = lacking <= catchUpsClose || n >= catchUpsMax
		case errors.Is(err, errMoved) || errors.Is(err, errForked) || failures == fetchTries || !mesh.Pause(f.ctx, f.cfg.Grace/8):
			return err
		default: // a source went away; what has come stays
			failures++
		}
	}
}

// catchUp fetches the results up to the newest state that the members agree on, and says
// how many were lacking.
func (f *fetching) catchUp(ctx context.Context, ask transfer.Ask) (lacking uint64, err error) {
	voices, err := f.survey(f.members(), ask)
	lineage := transfer.Agree(voices)
	newest, ok := transfer.Newest(lineage)
	if !ok {
		return 0, errors.Join(errors.New("the members agree on no state"), err)
	}
	if d, known := transfer.Agreed(lineage, f.base.Round); known && d != f.base.Digest || newest.Round < f.base.Round {
		return 0, fmt.Errorf("round %d: %w", f.base.Round, errForked)
	}
	from := f.next
	for f.next < newest.Round {
		results, err := f.fetchResults(ctx, lineage, f.next, min(newest.Round, f.next+resultsAtOnce))
		if err != nil {
			return 0, err
		}
		f.fetched.Results = append(f.fetched.Results, results...)
		f.next += uint64(len(results))
	}
	f.kept = lineage[0].Round - lineage[0].Oldest
	f.place(lineage[0], newest)
	return f.next - from, nil
}

// place notes where the group is, and what was before.
func (f *fetching) place(v transfer.Voice, newest exchange.Mark) {
	f.fetched.GroupRound, f.fetched.GroupStep, f.fetched.GroupSince = v.Round, v.Step, v.Since
	f.fetched.Past = slices.DeleteFunc(slices.Clone(v.Marks), func(m exchange.Mark) bool { return m.Round >= newest.Round })
	f.fetched.Past = append(f.fetched.Past, newest)
}

// fetchResults gets the results of the rounds [from, to) at the same time.
func (f *fetching) fetchResults(ctx context.Context, lineage []transfer.Voice, from, to uint64) ([]exchange.Result, error) {
	results, errs := make([]exchange.Result, to-from), make([]error, to-from)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() { results[i], errs[i] = f.fetchResult(ctx, lineage, from+uint64(i)) })
	}
	wg.Wait()
	return results, errors.Join(errs...)
}

// fetchResult gets the result of a round from all that keep it.
func (f *fetching) fetchResult(ctx context.Context, lineage []transfer.Voice, round uint64) (exchange.Result, error) {
	keep := slices.DeleteFunc(slices.Clone(lineage), func(v transfer.Voice) bool { return v.Oldest > round || round >= v.Round })
	m, sources, err := f.offers(keep, transfer.Take{Kind: transfer.Result, Exact: true, Round: round})
	if m == nil {
		var file *partial
		var refused refusal
		m, file = loadPartial(f.cfg.StateDir, transfer.Result, round, uint64(f.cfg.MaxState))
		switch {
		case file != nil:
			file.close()
		case len(keep) == 0 || errors.As(err, &refused):
			return exchange.Result{}, fmt.Errorf("round %d: %w", round, errMoved)
		default:
			return exchange.Result{}, fmt.Errorf("round %d: %w", round, err)
		}
	}
	f.notes.Lock()
	f.size += int64(m.Bytes())
	size := f.size
	f.notes.Unlock()
	if size > f.cfg.ReplayBytes {
		return exchange.Result{}, fmt.Errorf("the results up to round %d have more than %d bytes: %w; allow more", round, f.cfg.ReplayBytes, errMoved)
	}
	o, err := f.gather(ctx, m, sources)
	if err != nil {
		return exchange.Result{}, err
	}
	return exchange.Result{Round: round, Tokens: o.Tokens, Bytes: o.bytes}, nil
}

// fetchMoments gets the inner moments of one worker after the other, until one has them.
func (f *fetching) fetchMoments(ctx context.Context, lineage []transfer.Voice) {
	for _, v := range lineage {
		m, sources, err := f.offers([]transfer.Voice{v}, transfer.Take{Kind: transfer.Moments})
		if m != nil {
			var o *object
			if o, err = f.gather(ctx, m, sources); err == nil {
				st := o.state()
				f.fetched.Moments = &st
				return
			}
		}
		f.cfg.Logger.Warn("gossip: fetch inner moments", "peer", v.ID, "error", err)
	}
}

// fetchReplica gets the state of one worker, where each has its own: first of the one
// that an interrupted fetch was from, then those furthest on.
func (f *fetching) fetchReplica(voices []transfer.Voice) error {
	var begun [32]byte
	left, file := loadPartial(f.cfg.StateDir, transfer.State, 0, uint64(f.cfg.MaxState))
	if file != nil {
		begun = left.ID()
		file.close()
	}
	slices.SortStableFunc(voices, func(a, b transfer.Voice) int {
		switch {
		case left != nil && a.Held == begun && b.Held != begun:
			return -1
		case left != nil && b.Held == begun && a.Held != begun:
			return 1
		}
		return cmp.Compare(b.Round, a.Round)
	})
	var errs []error
	for _, v := range voices {
		if !v.Ready {
			continue
		}
		t := transfer.Take{Kind: transfer.State}
		if left != nil && v.Held == begun {
			t = transfer.Take{Kind: transfer.State, Exact: true, Round: left.Round, Digest: left.Digest}
		}
		m, sources, err := f.offers([]transfer.Voice{v}, t)
		if m != nil {
			var o *object
			if o, err = f.gather(f.ctx, m, sources); err == nil {
				f.fetched.State = o.state()
				f.comeInBeside(v)
				if f.want.Moments {
					f.fetchMoments(f.ctx, []transfer.Voice{v})
				}
				return nil
			}
		}
		errs = append(errs, fmt.Errorf("worker %d (%s): %w", v.Worker, v.ID, err))
	}
	return errors.Join(errs...)
}

// comeInBeside asks a source where it is by now.
func (f *fetching) comeInBeside(v transfer.Voice) {
	if a, err := f.ask(v.ID, transfer.Ask{Coming: true}); err == nil && a.Ready {
		v.Answer = a
	}
	f.fetched.GroupRound, f.fetched.GroupStep, f.fetched.GroupSince = v.Round, v.Step, v.Since
	f.fetched.Past = append(slices.Clone(v.Marks), exchange.Mark{Round: v.Round, Digest: v.Digest})
}

// note files what became of a gathering.
func (f *fetching) note(blame []string, bytes int64) {
	f.notes.Lock()
	defer f.notes.Unlock()
	f.fetched.Blame = append(f.fetched.Blame, blame...)
	f.fetched.Bytes += bytes
}

// distrust leaves out sources that served what is not what it was said to be.
func (f *fetching) distrust(ids []mesh.ID) {
	f.notes.Lock()
	defer f.notes.Unlock()
	for _, id := range ids {
		f.distrusts[id] = true
	}
}
