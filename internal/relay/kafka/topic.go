package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// connect makes a client where there is none, and the topic if that is wanted.
func (s *Sink) connect(ctx context.Context) (err error) {
	if s.client != nil {
		return nil
	}
	if s.client, err = kgo.NewClient(s.options...); err != nil {
		return err
	}
	err = s.findTopic(ctx)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		if s.create {
			err = s.createTopic(ctx)
		} else {
			err = fmt.Errorf("there is no topic %s: make it (kafka-topics.sh --create), or add ?create=true to the address of "+
				"the sink", s.topic)
		}
	}
	if err != nil {
		s.disconnect()
	}
	return err
}

// findTopic asks for the topic in a way that does not make it.
func (s *Sink) findTopic(ctx context.Context) error {
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &s.topic
	request := kmsg.NewPtrMetadataRequest()
	request.AllowAutoTopicCreation, request.Topics = false, append(request.Topics, topic)
	answer, err := request.RequestWith(ctx, s.client)
	if err != nil {
		return err
	}
	for i := range answer.Topics {
		if err := kerr.ErrorForCode(answer.Topics[i].ErrorCode); err != nil {
			return fmt.Errorf("finding the topic %s: %w", s.topic, err)
		}
	}
	return nil
}

// createTopic makes the topic with as many partitions and replicas as the brokers are set up for.
func (s *Sink) createTopic(ctx context.Context) error {
	topic := kmsg.NewCreateTopicsRequestTopic()
	topic.Topic, topic.NumPartitions, topic.ReplicationFactor = s.topic, -1, -1
	request := kmsg.NewPtrCreateTopicsRequest()
	request.Topics = append(request.Topics, topic)
	answer, err := request.RequestWith(ctx, s.client)
	if err != nil {
		return fmt.Errorf("making the topic %s: %w", s.topic, err)
	}
	for i := range answer.Topics {
		err := kerr.ErrorForCode(answer.Topics[i].ErrorCode)
		if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("making the topic %s: %w", s.topic, err)
		}
	}
	return nil
}
