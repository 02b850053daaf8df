package org.genrecall.opensearch.query;

import org.apache.lucene.search.BooleanClause;
import org.apache.lucene.search.MatchNoDocsQuery;
import org.apache.lucene.search.Query;
import org.apache.lucene.util.SetOnce;
import org.genrecall.opensearch.generation.Formats;
import org.genrecall.opensearch.generation.Generation;
import org.genrecall.opensearch.generation.GenerationException;
import org.genrecall.opensearch.generation.GenerationService;
import org.genrecall.opensearch.generation.IndexCodebooks;
import org.genrecall.opensearch.generation.Prompt;
import org.genrecall.opensearch.generation.PromptDraft;
import org.genrecall.opensearch.generation.UserContext;
import org.opensearch.common.Nullable;
import org.opensearch.common.unit.TimeValue;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;
import org.opensearch.index.mapper.KeywordFieldMapper;
import org.opensearch.index.mapper.MappedFieldType;
import org.opensearch.index.query.AbstractQueryBuilder;
import org.opensearch.index.query.InnerHitContextBuilder;
import org.opensearch.index.query.QueryBuilder;
import org.opensearch.index.query.QueryBuilderVisitor;
import org.opensearch.index.query.QueryCoordinatorContext;
import org.opensearch.index.query.QueryRewriteContext;
import org.opensearch.index.query.QueryShardContext;
import org.opensearch.index.query.QueryShardException;
import org.opensearch.index.query.WithFieldName;

import java.io.IOException;
import java.util.Collections;
import java.util.Map;
import java.util.Objects;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.function.Supplier;

/**
 * The {@code generative} clause: documents whose SID is among those that a model writes for a query.
 *
 * <p>It holds either a <em>prompt</em> or SIDs. A prompt is rewritten once a request, on the coordinator, in three states:
 * <ol>
 *   <li>asking: registers the asynchronous call and becomes a copy that waits for its outcome;
 *   <li>waiting: stays itself, however often it is rewritten, until the outcome is there;
 *   <li>answered: becomes the clause with SIDs, or what {@code on_failure} says.
 * </ol>
 * The clause with SIDs, just as one where the user gave them, travels to the shards and becomes a {@link SidQuery} there. The
 * query of {@code order_within} is rewritten too, before the call and after it, but not while its outcome is awaited.
 */
public final class GenerativeQueryBuilder extends AbstractQueryBuilder<GenerativeQueryBuilder> implements WithFieldName {

    public static final String NAME = "generative";

    private final String fieldName;
    /** Null where SIDs were given or generated. */
    @Nullable
    private final Prompt prompt;
    /** By codebook; null while there is a prompt. */
    @Nullable
    private final SortedMap<String, Generation> generations;
    @Nullable
    private final OrderWithin orderWithin;
    private final Supplier<GenerationService> service;
    /** Set while waiting: the query to become, null until there is an outcome. Never leaves the coordinator. */
    @Nullable
    private final Supplier<QueryBuilder> outcome;

    @Nullable
    private String codebook;
    @Nullable
    private TimeValue timeout;
    private OnFailure onFailure = OnFailure.FAIL;
    private float minScore = 0;
    private boolean ignoreUnmapped = false;

    /** A clause that asks the model. */
    GenerativeQueryBuilder(String fieldName, Prompt prompt, @Nullable OrderWithin orderWithin, Supplier<GenerationService> service) {
        this(fieldName, Objects.requireNonNull(prompt), null, orderWithin, service, null);
    }

    /** A clause of known SIDs, by codebook. */
    GenerativeQueryBuilder(
        String fieldName,
        SortedMap<String, Generation> generations,
        @Nullable OrderWithin orderWithin,
        Supplier<GenerationService> service
    ) {
        this(fieldName, null, Objects.requireNonNull(generations), orderWithin, service, null);
    }

    private GenerativeQueryBuilder(
        String fieldName,
        Prompt prompt,
        SortedMap<String, Generation> generations,
        OrderWithin orderWithin,
        Supplier<GenerationService> service,
        Supplier<QueryBuilder> outcome
    ) {
        this.fieldName = fieldName;
        this.prompt = prompt;
        this.generations = generations == null ? null : needed(generations, orderWithin);
        this.orderWithin = orderWithin;
        this.service = service;
        this.outcome = outcome;
    }

    /** Without the numbers of items where nothing is ordered by them, so that equal clauses are equal on every node. */
    private static SortedMap<String, Generation> needed(SortedMap<String, Generation> generations, OrderWithin orderWithin) {
        SortedMap<String, Generation> needed = new TreeMap<>(generations);
        if (orderWithin == null) {
            needed.replaceAll((codebook, generation) -> generation.withoutItems());
        }
        return Collections.unmodifiableSortedMap(needed);
    }

    public GenerativeQueryBuilder(StreamInput in, Supplier<GenerationService> service) throws IOException {
        super(in);
        int format = in.readVInt();
        if (format < Formats.PLAIN || format > Formats.WITHOUT_MEMORY) {
            throw new IllegalStateException(
                "[generative] another node wrote format [" + format + "], this one reads up to [" + Formats.WITHOUT_MEMORY
                    + "]: install the same release of the genrecall plugin on every node"
            );
        }
        boolean memory = format < Formats.WITHOUT_MEMORY;
        boolean ordered = memory ? format >= Formats.ORDERED : in.readBoolean();
        this.fieldName = in.readString();
        Prompt read = in.readOptionalWriteable(Prompt::new);
        this.prompt = read == null ? null : read.withMemory(memory);
        this.generations = in.readBoolean()
            ? Collections.unmodifiableSortedMap(
                new TreeMap<>(in.readMap(StreamInput::readString, ordered ? Generation::new : Generation::readWithoutItems))
            )
            : null;
        this.service = service;
        this.outcome = null;
        this.codebook = in.readOptionalString();
        this.timeout = in.readOptionalTimeValue();
        this.onFailure = new OnFailure(in);
        this.minScore = in.readFloat();
        this.ignoreUnmapped = in.readBoolean();
        this.orderWithin = ordered ? new OrderWithin(in) : null;
    }

    /** The oldest format that has what this clause needs, so that in a mixed cluster older nodes still read it. */
    private int format() {
        if (prompt != null && prompt.memory() == false) {
            return Formats.WITHOUT_MEMORY;
        }
        return orderWithin == null ? Formats.PLAIN : Formats.ORDERED;
    }

    @Override
    protected void doWriteTo(StreamOutput out) throws IOException {
        if (outcome != null) {
            throw new IllegalStateException("[generative] is still waiting for its SIDs and cannot be sent to another node");
        }
        out.writeVInt(format());
        if (format() == Formats.WITHOUT_MEMORY) {
            out.writeBoolean(orderWithin != null);
        }
        out.writeString(fieldName);
        out.writeOptionalWriteable(prompt);
        out.writeBoolean(generations != null);
        if (generations != null) {
            Writeable.Writer<Generation> writer = orderWithin == null
                ? (stream, generation) -> generation.writeWithoutItems(stream)
                : (stream, generation) -> generation.writeTo(stream);
            out.writeMap(generations, StreamOutput::writeString, writer);
        }
        out.writeOptionalString(codebook);
        out.writeOptionalTimeValue(timeout);
        onFailure.writeTo(out);
        out.writeFloat(minScore);
        out.writeBoolean(ignoreUnmapped);
        if (orderWithin != null) {
            orderWithin.writeTo(out);
        }
    }

    public static GenerativeQueryBuilder fromXContent(XContentParser parser, Supplier<GenerationService> service) throws IOException {
        return GenerativeQueryParser.parse(parser, service);
    }

    /** Asks the model for this codebook, whatever the indices name; they must still be of it. */
    public GenerativeQueryBuilder codebook(@Nullable String codebook) {
        this.codebook = codebook;
        return this;
    }

    /** Of the call to the server; null: the cluster's. */
    public GenerativeQueryBuilder timeout(@Nullable TimeValue timeout) {
        this.timeout = timeout;
        return this;
    }

    GenerativeQueryBuilder onFailure(OnFailure onFailure) {
        this.onFailure = onFailure;
        return this;
    }

    /** SIDs of a smaller probability are left out. */
    public GenerativeQueryBuilder minScore(float minScore) {
        if (minScore < 0 || Float.isFinite(minScore) == false) {
            throw new IllegalArgumentException("[generative] min_score [" + minScore + "] is not a probability: choose 0 to 1");
        }
        this.minScore = minScore;
        return this;
    }

    /** Whether an index without the field matches nothing instead of failing. */
    public GenerativeQueryBuilder ignoreUnmapped(boolean ignoreUnmapped) {
        this.ignoreUnmapped = ignoreUnmapped;
        return this;
    }

    @Override
    public String fieldName() {
        return fieldName;
    }

    @Override
    protected QueryBuilder doRewrite(QueryRewriteContext context) throws IOException {
        if (outcome != null) {
            QueryBuilder answered = outcome.get();
            return answered != null ? answered : this;
        }
        QueryCoordinatorContext coordinator = context.convertToCoordinatorContext();
        if (orderWithin != null) {
            if (coordinator != null) {
                service.get().checkOrdered();
            }
            OrderWithin rewritten = orderWithin.rewrite(context);
            if (rewritten != orderWithin) {
                return with(prompt, generations, rewritten, null);
            }
        }
        if (generations != null || coordinator == null) {
            return this; // doToQuery says why a prompt cannot be answered without a coordinator
        }
        GenerationService generator = service.get();
        generator.checkLimits(prompt, timeout);
        generator.enter(coordinator.getSearchRequest());
        SetOnce<QueryBuilder> answer = new SetOnce<>();
        context.registerAsyncAction(
            (client, next) -> generator.generate(coordinator.getSearchRequest(), codebook, prompt, timeout, settle(answer, next))
        );
        return with(prompt, null, orderWithin, answer::get);
    }

    /** Decides what the clause becomes, then lets the rewrite go on. */
    private ActionListener<SortedMap<String, Generation>> settle(SetOnce<QueryBuilder> answer, ActionListener<?> next) {
        return new ActionListener<>() {
            @Override
            public void onResponse(SortedMap<String, Generation> generated) {
                answer.set(with(null, generated, orderWithin, null));
                next.onResponse(null);
            }

            @Override
            public void onFailure(Exception e) {
                QueryBuilder instead = e instanceof GenerationException ? onFailure.instead() : null;
                if (instead == null) {
                    next.onFailure(e);
                } else {
                    service.get().fellBack((GenerationException) e);
                    answer.set(instead);
                    next.onResponse(null);
                }
            }
        };
    }

    private GenerativeQueryBuilder with(
        Prompt prompt,
        SortedMap<String, Generation> generations,
        OrderWithin orderWithin,
        Supplier<QueryBuilder> outcome
    ) {
        GenerativeQueryBuilder copy = new GenerativeQueryBuilder(fieldName, prompt, generations, orderWithin, service, outcome);
        copy.minScore(minScore).ignoreUnmapped(ignoreUnmapped).boost(boost).queryName(queryName);
        return generations != null ? copy : copy.codebook(codebook).timeout(timeout).onFailure(onFailure);
    }

    @Override
    protected Query doToQuery(QueryShardContext context) throws IOException {
        MappedFieldType field = context.fieldMapper(fieldName);
        if (field == null) {
            if (ignoreUnmapped) {
                return new MatchNoDocsQuery("no field [" + fieldName + "]");
            }
            throw new QueryShardException(
                context,
                "[generative] no field [" + fieldName + "] in this index: name the keyword field that holds SIDs, or set [ignore_unmapped]"
            );
        }
        if (field.unwrap() instanceof KeywordFieldMapper.KeywordFieldType == false) {
            throw new QueryShardException(
                context,
                "[generative] field [" + fieldName + "] is of type [" + field.typeName()
                    + "], but SIDs need a [keyword] field: name that field, or map this one as keyword and index anew"
            );
        }
        if (generations == null) {
            throw new QueryShardException(
                context,
                "[generative] query_text cannot be answered here: no model is asked inside an alias filter, a percolator document or"
                    + " another place that is read on the shard alone. Give [sids] and [codebook] in its place"
            );
        }
        String indexed = indexCodebook(context);
        Generation generation = generations.get(indexed);
        if (generation == null) {
            throw new QueryShardException(
                context,
                "[generative] this index is of codebook [" + indexed + "], the SIDs are of " + generations.keySet()
                    + ": leave [codebook] out, or search an index of that codebook"
            );
        }
        SidQuery sids = new SidQuery(indexed, generation, minScore, field, context);
        Query order = orderWithin == null ? null : orderWithin.query().toQuery(context);
        float weight = orderWithin == null ? 0 : orderWithin.weight();
        Query form = order == null
            ? sids.byProbability()
            : sids.ordered(SidQuery.shift(generations.values(), minScore), order, weight);
        return form instanceof MatchNoDocsQuery ? form : new GenerativeQuery(form, sids, queryName, order, weight);
    }

    private static String indexCodebook(QueryShardContext context) {
        var mapper = context.getMapperService().documentMapper();
        String codebook = IndexCodebooks.named(mapper == null ? null : mapper.meta());
        if (codebook == null) {
            throw new QueryShardException(
                context,
                "[generative] the mapping of this index names no codebook: set [_meta.genrecall.codebook] to that of its SIDs"
            );
        }
        return codebook;
    }

    @Override
    protected void doXContent(XContentBuilder builder, Params params) throws IOException {
        builder.startObject(NAME).startObject(fieldName);
        if (prompt != null) {
            promptToXContent(builder, params);
        } else {
            sidsToXContent(builder);
        }
        if (orderWithin != null) {
            builder.field(GenerativeQueryParser.ORDER_WITHIN.getPreferredName(), orderWithin);
        }
        builder.field(GenerativeQueryParser.MIN_SCORE.getPreferredName(), minScore);
        builder.field(GenerativeQueryParser.IGNORE_UNMAPPED.getPreferredName(), ignoreUnmapped);
        printBoostAndQueryName(builder);
        builder.endObject().endObject();
    }

    private void promptToXContent(XContentBuilder builder, Params params) throws IOException {
        builder.field(PromptDraft.QUERY_TEXT.getPreferredName(), prompt.text());
        if (codebook != null) {
            builder.field(PromptDraft.CODEBOOK.getPreferredName(), codebook);
        }
        builder.field(PromptDraft.K.getPreferredName(), prompt.k());
        builder.field(PromptDraft.BEAM_WIDTH.getPreferredName(), prompt.beamWidth());
        if (prompt.user().equals(UserContext.ANONYMOUS) == false) {
            builder.field(PromptDraft.USER.getPreferredName(), prompt.user());
        }
        if (prompt.memory() == false) {
            builder.field(PromptDraft.MEMORY.getPreferredName(), false);
        }
        if (timeout != null) {
            builder.field(PromptDraft.TIMEOUT.getPreferredName(), timeout.getStringRep());
        }
        builder.field(GenerativeQueryParser.ON_FAILURE.getPreferredName());
        onFailure.toXContent(builder, params);
    }

    /** Generated SIDs read back as given ones: what a slow log shows can be searched again. */
    private void sidsToXContent(XContentBuilder builder) throws IOException {
        if (generations.size() == 1) {
            builder.field(PromptDraft.CODEBOOK.getPreferredName(), generations.firstKey());
        }
        builder.startArray(GenerativeQueryParser.SIDS.getPreferredName());
        for (Map.Entry<String, Generation> entry : generations.entrySet()) {
            entry.getValue().addTo(builder, entry.getKey());
        }
        builder.endArray();
    }

    /** Reaches the query of {@code order_within} too: neural-search gives queries their default model so. */
    @Override
    public void visit(QueryBuilderVisitor visitor) {
        visitor.accept(this);
        if (orderWithin != null) {
            orderWithin.query().visit(visitor.getChildVisitor(BooleanClause.Occur.SHOULD));
        }
    }

    @Override
    protected void extractInnerHitBuilders(Map<String, InnerHitContextBuilder> innerHits) {
        if (orderWithin != null) {
            InnerHitContextBuilder.extractInnerHits(orderWithin.query(), innerHits);
        }
    }

    @Override
    protected boolean doEquals(GenerativeQueryBuilder that) {
        return fieldName.equals(that.fieldName)
            && Objects.equals(prompt, that.prompt)
            && Objects.equals(generations, that.generations)
            && Objects.equals(orderWithin, that.orderWithin)
            && Objects.equals(codebook, that.codebook)
            && Objects.equals(timeout, that.timeout)
            && onFailure.equals(that.onFailure)
            && minScore == that.minScore
            && ignoreUnmapped == that.ignoreUnmapped;
    }

    @Override
    protected int doHashCode() {
        return Objects.hash(fieldName, prompt, generations, orderWithin, codebook, timeout, onFailure, minScore, ignoreUnmapped);
    }

    @Override
    public String getWriteableName() {
        return NAME;
    }
}
