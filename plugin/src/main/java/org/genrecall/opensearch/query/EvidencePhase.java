package org.genrecall.opensearch.query;

import org.apache.lucene.index.LeafReaderContext;
import org.apache.lucene.index.SortedSetDocValues;
import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.QueryVisitor;
import org.apache.lucene.search.ScoreMode;
import org.apache.lucene.search.Scorer;
import org.apache.lucene.search.Weight;
import org.genrecall.opensearch.generation.Generation;
import org.opensearch.common.Nullable;
import org.opensearch.common.document.DocumentField;
import org.opensearch.search.fetch.FetchContext;
import org.opensearch.search.fetch.FetchSubPhase;
import org.opensearch.search.fetch.FetchSubPhaseProcessor;

import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Why a clause found a hit, as a field {@code _generative} of it: for each clause and SID, its rank and probability, and what its
 * {@code order_within} adds. For searches that ask so, by {@link EvidenceOption}.
 */
public final class EvidencePhase implements FetchSubPhase {

    static final String FIELD = "_generative";

    @Override
    public FetchSubPhaseProcessor getProcessor(FetchContext context) throws IOException {
        boolean asked = context.getSearchExt(EvidenceOption.NAME) instanceof EvidenceOption option && option.wanted();
        if (asked == false || context.parsedQuery() == null) {
            return null;
        }
        List<Clause> clauses = new ArrayList<>();
        for (GenerativeQuery query : queries(context.parsedQuery().query())) {
            clauses.add(new Clause(query, context));
        }
        return clauses.isEmpty() ? null : new Processor(clauses);
    }

    /** Those within a query, once each. */
    private static List<GenerativeQuery> queries(Query query) {
        Map<GenerativeQuery, Boolean> found = new LinkedHashMap<>();
        query.visit(new QueryVisitor() {
            @Override
            public QueryVisitor getSubVisitor(BooleanClause.Occur occur, Query parent) {
                if (parent instanceof GenerativeQuery generative) {
                    found.put(generative, true);
                }
                return this; // also below what must not match: its SIDs are none of a hit's
            }
        });
        return List.copyOf(found.keySet());
    }

    /** A clause, its ranks by SID term, and what scores the items of one. */
    private static final class Clause {
        private final GenerativeQuery query;
        private final Map<String, Integer> ranks = new HashMap<>();
        @Nullable
        private final Weight order;

        Clause(GenerativeQuery query, FetchContext context) throws IOException {
            this.query = query;
            Generation generation = query.generation();
            for (int rank = 0; rank < generation.size(); rank++) {
                if (generation.probability(rank) >= query.sids.minScore()) {
                    ranks.put(generation.term(query.sids.codebook(), rank), rank);
                }
            }
            this.order = query.order == null
                ? null
                : context.searcher().createWeight(context.searcher().rewrite(query.order), ScoreMode.COMPLETE, 1);
        }

        void addTo(List<Object> evidence, FetchSubPhase.HitContext hit) throws IOException {
            SortedSetDocValues sids = hit.reader().getSortedSetDocValues(query.sids.field().name());
            if (sids == null || sids.advanceExact(hit.docId()) == false) {
                return;
            }
            for (int i = 0; i < sids.docValueCount(); i++) {
                String term = sids.lookupOrd(sids.nextOrd()).utf8ToString();
                Integer rank = ranks.get(term);
                if (rank != null) {
                    evidence.add(of(term, rank, hit));
                }
            }
        }

        private Map<String, Object> of(String term, int rank, FetchSubPhase.HitContext hit) throws IOException {
            Map<String, Object> evidence = new LinkedHashMap<>();
            if (query.name != null) {
                evidence.put("name", query.name);
            }
            evidence.put("sid", term);
            evidence.put("rank", rank + 1);
            evidence.put("probability", query.generation().probability(rank));
            if (query.generation().items(rank) > 0) {
                evidence.put("items", query.generation().items(rank));
            }
            if (order != null) {
                Scorer scorer = order.scorer(hit.readerContext());
                boolean matches = scorer != null && scorer.iterator().advance(hit.docId()) == hit.docId();
                evidence.put("order_within", matches ? query.weight * scorer.score() : 0f);
            }
            return evidence;
        }
    }

    private record Processor(List<Clause> clauses) implements FetchSubPhaseProcessor {
        @Override
        public void setNextReader(LeafReaderContext context) {}

        @Override
        public void process(HitContext hit) throws IOException {
            List<Object> evidence = new ArrayList<>();
            for (Clause clause : clauses) {
                clause.addTo(evidence, hit);
            }
            if (evidence.isEmpty() == false) {
                hit.hit().setDocumentField(FIELD, new DocumentField(FIELD, evidence));
            }
        }
    }
}
