package client

import (
	"bytes"
	"encoding/json"
)

// An answer to hundreds of callers is taken apart before each of them decodes his own part. encoding/json would look at
// every byte of it three times for that, while all of them wait; the server writes it in one way, which is read here, and
// whatever is written otherwise goes to encoding/json.

var (
	resultsBegin = []byte(`{"results":[`)
	statusBegin  = []byte(`{"status":`)
	bodyBegin    = []byte(`,"body":`)
)

// splitResults takes the answer to a batch apart.
func splitResults(content []byte) ([]result, error) {
	if results, ok := splitPlain(content); ok {
		return results, nil
	}
	var answer batchAnswer
	err := json.Unmarshal(content, &answer)
	return answer.Results, err
}

// splitPlain does so where the answer is written as the server writes it. It does not check the bodies: whoever decodes
// one does.
func splitPlain(content []byte) (results []result, ok bool) {
	rest, ok := bytes.CutPrefix(content, resultsBegin)
	for ok {
		var r result
		if r, rest, ok = splitResult(rest); !ok {
			return nil, false
		}
		results = append(results, r)
		if len(rest) == 0 {
			return nil, false
		}
		next := rest[0]
		rest = rest[1:]
		if next == ']' {
			return results, string(rest) == "}"
		}
		ok = next == ','
	}
	return nil, false
}

// splitResult takes {"status":NNN,"body":{…}} off the front.
func splitResult(b []byte) (r result, rest []byte, ok bool) {
	if b, ok = bytes.CutPrefix(b, statusBegin); !ok || len(b) == 0 || b[0] == '0' {
		return r, nil, false
	}
	for len(b) > 0 && b[0] >= '0' && b[0] <= '9' && r.Status < 100 {
		r.Status = 10*r.Status + int(b[0]-'0')
		b = b[1:]
	}
	if b, ok = bytes.CutPrefix(b, bodyBegin); !ok || r.Status < 100 {
		return r, nil, false
	}
	n := objectLength(b)
	if n == 0 || n == len(b) || b[n] != '}' {
		return r, nil, false
	}
	r.Body = json.RawMessage(b[:n:n])
	return r, b[n+1:], true
}

// objectLength is the length of the JSON object that b begins with, 0 where there is none that ends.
func objectLength(b []byte) int {
	if len(b) == 0 || b[0] != '{' {
		return 0
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		}
	}
	return 0
}
