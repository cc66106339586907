package relay

// InParts sends messages for a sink whose broker refuses several at once and does not say which one is too large. It
// sends all, and after such a refusal the half, until one that is alone is refused: that one is [Refused] for good.
func InParts(messages []Message, tooLarge func(error) bool, send func([]Message) (int, error)) (int, error) {
	accepted, limit := 0, len(messages)
	for accepted < len(messages) {
		part := messages[accepted:min(accepted+limit, len(messages))]
		n, err := send(part)
		accepted += n
		switch {
		case err == nil:
		case !tooLarge(err):
			return accepted, err
		case len(part) == 1:
			return accepted, &Refused{Reason: err}
		default:
			limit = (len(part) + 1) / 2
		}
	}
	return accepted, nil
}
