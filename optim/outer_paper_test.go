package optim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// Reference: DiLoCo §2, Algorithm 1, line 12: Δ = φ − θ, so a step of η = 1 and
// μ = 0 along it lands on θ.
func TestPseudoGradientPointsFromFastToSlow(t *testing.T) {
	slow, fast, delta := []float32{1, -2, 0.5}, []float32{0.5, -1, 0.5}, make([]float32, 3)
	pseudoGradient(delta, slow, fast)
	want := []float32{0.5, -1, 0}
	for i := range want {
		if delta[i] != want[i] {
			t.Fatalf("Δ = %v, want %v", delta, want)
		}
	}
	stepNesterov(Nesterov{LR: 1}, slow, make([]float32, 3), delta)
	for i := range fast {
		if slow[i] != fast[i] {
			t.Fatalf("φ after η = 1, μ = 0 is %v, want θ = %v", slow, fast)
		}
	}
}

// Reference: NoLoCo equation 1: Δ = θ − φ, the opposite sign of DiLoCo's.
func TestProgressIsTheOppositeSign(t *testing.T) {
	slow, fast := []float32{1, -2}, []float32{0.5, -1}
	a, b := make([]float32, 2), make([]float32, 2)
	pseudoGradient(a, slow, fast)
	progress(b, slow, fast)
	for i := range a {
		if a[i] != -b[i] {
			t.Fatalf("Δ DiLoCo %v, Δ NoLoCo %v", a, b)
		}
	}
}

// Reference: PyTorch SGD(nesterov=True), dampening 0: b = Δ on the first step and
// Nesterov acts on the updated b, so the first outer step moves η·(1+μ)·Δ = 1.33·Δ
// and a constant Δ tends to η·(1 + μ/(1−μ))·Δ = 7·Δ a step.
func TestNesterovFirstStepAndSteadyState(t *testing.T) {
	o := Nesterov{LR: 0.7, Momentum: 0.9}
	slow, b, delta := []float32{0}, []float32{0}, []float32{1}
	stepNesterov(o, slow, b, delta)
	if b[0] != 1 {
		t.Fatalf("b after the first step is %v, want Δ = 1", b[0])
	}
	near(t, "the first step", float64(-slow[0]), 0.7*1.9, 1e-6)
	var before float32
	for range 200 {
		before = slow[0]
		stepNesterov(o, slow, b, delta)
	}
	near(t, "a step of a constant Δ in the end", float64(before-slow[0]), 7, 1e-3)
}

// Five steps of torch.optim.SGD(lr=0.7, momentum=0.9, nesterov=True) worked by
// hand: p0 = 1, gradients 0.5, −0.25, 1, 0, 0.125.
func TestNesterovEqualsPyTorch(t *testing.T) {
	grads := []float64{0.5, -0.25, 1, 0, 0.125}
	p, b := 1.0, 0.0
	slow, buf := []float32{1}, []float32{0}
	for i, g := range grads {
		if i == 0 {
			b = g
		} else {
			b = 0.9*b + g
		}
		p -= 0.7 * (g + 0.9*b)
		stepNesterov(Nesterov{LR: 0.7, Momentum: 0.9}, slow, buf, []float32{float32(g)})
		near(t, fmt.Sprintf("φ after step %d", i), float64(slow[0]), p, 1e-6)
	}
}

// Reference: NoLoCo equations 2 and 3, worked by hand with the appendix's sign.
func TestNoLoCoStep(t *testing.T) {
	o := NoLoCo{Alpha: 0.5, Beta: 0.7, Gamma: 0.6}
	slow, momentum := []float32{1}, []float32{0.2}
	stepNoLoCo(o, slow, momentum, []float32{-0.1}, []float32{0.8})
	want := 0.5*0.2 + 0.7*-0.1 - 0.6*(1-0.8)
	near(t, "δ", float64(momentum[0]), want, 1e-7)
	near(t, "φ", float64(slow[0]), 1+want, 1e-7)
}

// The sign that equation 2 prints would walk away from θ: with the plus, a lone
// replica with α = 0 and β = 1 lands on θ.
func TestNoLoCoSignWalksTowardsFast(t *testing.T) {
	slow, fast, delta := []float32{3}, []float32{2}, make([]float32, 1)
	progress(delta, slow, fast)
	stepNoLoCo(NoLoCo{Beta: 1}, slow, make([]float32, 1), delta, []float32{3})
	if slow[0] != 2 {
		t.Fatalf("φ = %v, want θ = 2", slow[0])
	}
}

// β·mean Δ + γ·(mean φ − φ) = β·(mean θ − φ) when β = γ.
func TestNoLoCoBetaEqualsGammaFormIsTheGeneralForm(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const n = 257
	o := NoLoCo{Alpha: 0.5, Beta: 0.7, Gamma: 0.7}
	var slow, fast [2][]float32
	for i := range slow {
		slow[i], fast[i] = normal(rng, n), normal(rng, n)
	}
	meanDelta, meanSlow, meanFast := make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range n {
		meanDelta[i] = ((fast[0][i] - slow[0][i]) + (fast[1][i] - slow[1][i])) / 2
		meanSlow[i] = (slow[0][i] + slow[1][i]) / 2
		meanFast[i] = (fast[0][i] + fast[1][i]) / 2
	}
	momentum := normal(rng, n)
	slow2, momentum2 := append([]float32(nil), slow[0]...), append([]float32(nil), momentum...)
	stepNoLoCo(o, slow[0], momentum, meanDelta, meanSlow)
	stepFast(o, slow2, momentum2, meanFast)
	for i := range n {
		near(t, fmt.Sprintf("φ[%d] of the form for β = γ", i), float64(slow2[i]), float64(slow[0][i]), 4e-6)
		near(t, fmt.Sprintf("δ[%d] of the form for β = γ", i), float64(momentum2[i]), float64(momentum[i]), 4e-6)
	}
}

// Replicas that share φ, Δ and δ stay one replica: the γ term is exactly zero.
func TestIdenticalReplicasEqualOne(t *testing.T) {
	o := NoLoCo{Alpha: 0.5, Beta: 0.7, Gamma: 0.7}
	one, m1 := []float32{1, 2}, []float32{0.1, -0.1}
	two, m2 := []float32{1, 2}, []float32{0.1, -0.1}
	delta := []float32{0.3, -0.4}
	stepNoLoCo(o, one, m1, delta, []float32{1, 2})
	o.Gamma = 0
	stepNoLoCo(o, two, m2, delta, []float32{5, -7})
	for i := range one {
		if one[i] != two[i] || m1[i] != m2[i] {
			t.Fatalf("replica %v %v, alone %v %v", two, m2, one, m1)
		}
	}
}

// The edge of stability under random pairs is γ = 2(1 − α²), not the paper's
// equation 74: the variance of replicas that do not train falls just below it and
// grows just above it.
func TestNoLoCoGammaMaxIsTheEdgeOfStability(t *testing.T) {
	for _, alpha := range []float64{0, 0.3, 0.5, 0.7, 0.9} {
		edge := NoLoCoGammaMax(alpha)
		if below := disagreement(alpha, 0.93*edge); !(below <= 1e-3) {
			t.Errorf("α = %v, γ = %.3f below the edge: variance ratio %g, want a fall", alpha, 0.93*edge, below)
		}
		if above := disagreement(alpha, 1.12*edge); !(above >= 1e3) {
			t.Errorf("α = %v, γ = %.3f above the edge: variance ratio %g, want growth", alpha, 1.12*edge, above)
		}
	}
}

// disagreement runs 64 replicas of one value for 4000 rounds of random pairs with no
// training and returns the variance at the end over that at the start.
func disagreement(alpha, gamma float64) float64 {
	const replicas = 64
	rng := rand.New(rand.NewPCG(7, 8))
	phi, momentum := make([]float64, replicas), make([]float64, replicas)
	for i := range phi {
		phi[i] = rng.NormFloat64()
	}
	start := variance(phi)
	for range 4000 {
		perm := rng.Perm(replicas)
		for k := 0; k < replicas; k += 2 {
			i, j := perm[k], perm[k+1]
			mean := (phi[i] + phi[j]) / 2
			for _, r := range []int{i, j} {
				momentum[r] = alpha*momentum[r] - gamma*(phi[r]-mean)
				phi[r] += momentum[r]
			}
		}
		if v := variance(phi); math.IsInf(v, 0) || math.IsNaN(v) || v > 1e12 {
			return math.Inf(1)
		}
	}
	return variance(phi) / start
}

func variance(x []float64) (v float64) {
	mean := 0.0
	for _, a := range x {
		mean += a / float64(len(x))
	}
	for _, a := range x {
		v += (a - mean) * (a - mean) / float64(len(x))
	}
	return v
}

func normal(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}
