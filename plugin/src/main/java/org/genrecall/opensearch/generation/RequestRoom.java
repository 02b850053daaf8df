package org.genrecall.opensearch.generation;

import java.util.concurrent.atomic.AtomicInteger;

/** How much of this node's room one search request takes: of its clauses, those that are asking, and of their questions, those under way. */
final class RequestRoom {

    final AtomicInteger clauses = new AtomicInteger();
    final AtomicInteger questions = new AtomicInteger();
}
