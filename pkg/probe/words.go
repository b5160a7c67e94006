package probe

// The numbers of bpf/wire.h, as the Go code uses them.
const (
	phaseMask     = uint32(kernelStateSTATE_PHASE)
	phaseFree     = uint32(kernelPhasePHASE_FREE)
	phaseBusy     = uint32(kernelPhasePHASE_BUSY)
	phaseClosed   = uint32(kernelPhasePHASE_CLOSED)
	phaseLive     = uint32(kernelPhasePHASE_LIVE)
	phaseNegative = uint32(kernelPhasePHASE_NEGATIVE)

	stateStored     = uint32(kernelStateSTATE_STORED)
	stateInitiatorB = uint32(kernelStateSTATE_INITIATOR_B)
	stateMidstream  = uint32(kernelStateSTATE_MIDSTREAM)
	stateSynAck     = uint32(kernelStateSTATE_SYNACK)
	stateFragment   = uint32(kernelStateSTATE_FRAGMENT)
	stateOrphan     = uint32(kernelStateSTATE_ORPHAN)
	stateLocalA     = uint32(kernelStateSTATE_LOCAL_A)
	stateLocalB     = uint32(kernelStateSTATE_LOCAL_B)
	stateSplit      = uint32(kernelStateSTATE_SPLIT)
	stateBuried     = uint32(kernelStateSTATE_BURIED)
	stateDisplaced  = uint32(kernelStateSTATE_DISPLACED)
	genShift        = uint32(kernelStateSTATE_GEN_SHIFT)

	flagsReuse       = uint32(kernelFlagsFLAGS_REUSE_MASK)
	flagsEstablished = uint32(kernelFlagsFLAGS_ESTABLISHED)
	flagsAShift      = uint32(kernelFlagsFLAGS_A_SHIFT)
	flagsBShift      = uint32(kernelFlagsFLAGS_B_SHIFT)

	wordSlotBits  = uint32(kernelWordWORD_SLOT_BITS)
	wordTag       = uint64(kernelWordWORD_TAG)
	wordHalfOpen  = uint64(kernelWordWORD_HALF_OPEN)
	wordOverflows = uint64(1) << kernelWordWORD_OVERFLOW_SHIFT // one of them

	borderLocal  = uint32(kernelBorderValueBORDER_LOCAL)
	borderExempt = uint32(kernelBorderValueBORDER_EXEMPT)

	slotsPerBucket = 8 // SLOTS_PER_BUCKET
	bucketsPerLine = 8
	maxChain       = 8
	realmBits      = 24
)

// outcomeNames are the words of status for enum outcome, by number.
var outcomeNames = [...]string{
	kernelOutcomeOUTCOME_RECORDED:      "recorded",
	kernelOutcomeOUTCOME_NOT_IP:        "not_ip",
	kernelOutcomeOUTCOME_TRUNCATED:     "truncated",
	kernelOutcomeOUTCOME_BAD_IP:        "bad_ip",
	kernelOutcomeOUTCOME_L2DEPTH:       "l2_depth",
	kernelOutcomeOUTCOME_NOT_BORDER:    "not_border",
	kernelOutcomeOUTCOME_EXEMPT:        "exempt",
	kernelOutcomeOUTCOME_PROFILE:       "outside_profile",
	kernelOutcomeOUTCOME_TABLE_FULL:    "table_full",
	kernelOutcomeOUTCOME_CONTENDED:     "contended",
	kernelOutcomeOUTCOME_FRAGMENT_HELD: "fragment_held",
	kernelOutcomeOUTCOME_FRAGMENT_LOST: "fragment_lost",
	kernelOutcomeOUTCOME_HALF_OPEN:     "half_open",
}
