package stun

// ErrorCode is the number of an error response.
type ErrorCode int

// Errors of RFC 8489 section 14.8 and RFC 8656 section 19.
const (
	CodeTryAlternate                 ErrorCode = 300
	CodeBadRequest                   ErrorCode = 400
	CodeUnauthenticated              ErrorCode = 401
	CodeForbidden                    ErrorCode = 403
	CodeUnknownAttribute             ErrorCode = 420
	CodeAllocationMismatch           ErrorCode = 437
	CodeStaleNonce                   ErrorCode = 438
	CodeAddressFamilyNotSupported    ErrorCode = 440
	CodeWrongCredentials             ErrorCode = 441
	CodeUnsupportedTransportProtocol ErrorCode = 442
	CodePeerAddressFamilyMismatch    ErrorCode = 443
	CodeAllocationQuotaReached       ErrorCode = 486
	CodeServerError                  ErrorCode = 500
	CodeInsufficientCapacity         ErrorCode = 508
)

// Reason returns the phrase that the RFCs recommend for the code.
func (c ErrorCode) Reason() string {
	switch c {
	case CodeTryAlternate:
		return "Try Alternate"
	case CodeBadRequest:
		return "Bad Request"
	case CodeUnauthenticated:
		return "Unauthenticated"
	case CodeForbidden:
		return "Forbidden"
	case CodeUnknownAttribute:
		return "Unknown Attribute"
	case CodeAllocationMismatch:
		return "Allocation Mismatch"
	case CodeStaleNonce:
		return "Stale Nonce"
	case CodeAddressFamilyNotSupported:
		return "Address Family not Supported"
	case CodeWrongCredentials:
		return "Wrong Credentials"
	case CodeUnsupportedTransportProtocol:
		return "Unsupported Transport Protocol"
	case CodePeerAddressFamilyMismatch:
		return "Peer Address Family Mismatch"
	case CodeAllocationQuotaReached:
		return "Allocation Quota Reached"
	case CodeServerError:
		return "Server Error"
	case CodeInsufficientCapacity:
		return "Insufficient Capacity"
	}
	return ""
}
