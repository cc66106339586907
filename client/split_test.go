package client

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzSplitResults: what is taken apart by hand is what encoding/json makes of it, where the bodies are JSON at all.
func FuzzSplitResults(f *testing.F) {
	for _, seed := range []string{
		`{"results":[{"status":201,"body":{"id":"a","x":[{"y":"}]\\"}]}},{"status":409,"body":{}}]}`,
		`{"results":[{"status":200,"body":{"a":1}}]}`, `{"results":[]}`, `{"results":[{"body":{},"status":1}]}`, `{"results":[{"status":1,"body":{"`,
		`{ "results":[{"status":200,"body":null}]}`, `{"results":[{"status":200,"body":{}},]}`, `{"results":[{"status":200,"body":{}}]}x`,
		`{"results":[{"status":00200,"body":{}}]}`, `{"results":[{"status":,"body":{}}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		plain, ok := splitPlain(content)
		if !ok {
			return
		}
		for _, r := range plain {
			if !json.Valid(r.Body) {
				return // whoever decodes it is told
			}
		}
		var answer batchAnswer
		if err := json.Unmarshal(content, &answer); err != nil || !reflect.DeepEqual(answer.Results, plain) {
			t.Errorf("by hand %v, by encoding/json %v (%v)", plain, answer.Results, err)
		}
	})
}
