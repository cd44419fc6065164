package kernels

// The shape checks of each operation, for devices outside this package: they panic, as the
// package comment says, naming the operation and both sizes. ids are the tokens' on the host.

// CheckAlloc returns an error for a number of values or tokens that no device can have.
func CheckAlloc(what string, n int) error { return checkAlloc(what, n) }

// CheckWeight returns an error for sizes that no weight has, and panics when params is short.
func CheckWeight(params Buffer, out, in int) error { return checkWeight(params, out, in) }

// CheckSame panics unless an operand has the length that the operation needs.
func CheckSame(op, operand string, have, want int) { same(op, operand, have, want) }

// CheckForeign panics: have is an operand of another device.
func CheckForeign(op string, have any) { panicForeign(op, have) }

// CheckMatMul is the check of MatMul.
func CheckMatMul(c, a, b Buffer, m, n, k int) { checkMatMul(c, a, b, m, n, k) }

// CheckLinear is the check of Linear.
func CheckLinear(y, x Buffer, w Weight, residual Buffer, rows int) {
	checkLinear("linear", y, x, w, residual, rows)
}

// CheckLinearSwiGLU is the check of LinearSwiGLU.
func CheckLinearSwiGLU(out, gateUp, x Buffer, w Weight, rows int) {
	checkLinearSwiGLU(out, gateUp, x, w, rows)
}

// CheckLinearBackward is the check of LinearBackward.
func CheckLinearBackward(dx, dy Buffer, w Weight, rows int) { checkLinearBackward(dx, dy, w, rows) }

// CheckUpdateWeight is the check of UpdateWeight on n parameters.
func CheckUpdateWeight(n int, g, m, v Buffer) { checkUpdateWeight(n, g, m, v) }

// CheckRMSNorm is the check of RMSNorm.
func CheckRMSNorm(out, rstd, x, weight Buffer, rows, width int) {
	checkRMSNorm(out, rstd, x, weight, rows, width)
}

// CheckRMSNormBackward is the check of RMSNormBackward.
func CheckRMSNormBackward(dx, dweight, dout, x, weight, rstd Buffer, rows, width int) {
	checkRMSNormBackward(dx, dweight, dout, x, weight, rstd, rows, width)
}

// CheckRoPE is the check of RoPE.
func CheckRoPE(qkv, cos, sin Buffer, s AttentionShape) { checkRoPE(qkv, cos, sin, s) }

// CheckAttention is the check of Attention.
func CheckAttention(out, lse, qkv Buffer, s AttentionShape) { checkAttention(out, lse, qkv, s) }

// CheckAttentionBackward is the check of AttentionBackward.
func CheckAttentionBackward(dqkv, delta, dout, out, lse, qkv Buffer, s AttentionShape) {
	checkAttentionBackward(dqkv, delta, dout, out, lse, qkv, s)
}

// CheckSwiGLU is the check of SwiGLU.
func CheckSwiGLU(out, gateUp Buffer, rows, width int) { checkSwiGLU(out, gateUp, rows, width) }

// CheckSwiGLUBackward is the check of SwiGLUBackward.
func CheckSwiGLUBackward(dgateUp, dout, gateUp Buffer, rows, width int) {
	checkSwiGLUBackward(dgateUp, dout, gateUp, rows, width)
}

// CheckEmbedding is the check of Embedding, and with its op that of EmbeddingBackward.
func CheckEmbedding(op string, rows, table Buffer, ids []int32, vocab, width int) {
	checkEmbedding(op, rows, table, ids, vocab, width)
}

// CheckCrossEntropy is the check of CrossEntropy.
func CheckCrossEntropy(losses, logits Buffer, targets []int32, first, rows, vocab int) {
	checkCrossEntropy(losses, logits, targets, first, rows, vocab)
}

// CheckAdamW is the check of AdamW.
func CheckAdamW(p, g, m, v Buffer) { checkAdamW(p, g, m, v) }

// CheckAxpby is the check of Axpby, and of AxpbSum where z is not nil.
func CheckAxpby(dst, x, y, z Buffer) { checkAxpby(dst, x, y, z) }
