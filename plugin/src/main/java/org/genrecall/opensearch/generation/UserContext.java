package org.genrecall.opensearch.generation;

import org.opensearch.common.Nullable;
import org.opensearch.core.ParseField;
import org.opensearch.core.common.io.stream.StreamInput;
import org.opensearch.core.common.io.stream.StreamOutput;
import org.opensearch.core.common.io.stream.Writeable;
import org.opensearch.core.xcontent.ObjectParser;
import org.opensearch.core.xcontent.ToXContentObject;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;

import java.io.IOException;
import java.util.List;

/** Who asks. Every part may be absent; the lists are newest first. */
public record UserContext(@Nullable String gender, @Nullable String ageBand, List<String> recentSids, List<String> recentItems)
    implements
        Writeable,
        ToXContentObject {

    public static final UserContext NOBODY = new UserContext(null, null, List.of(), List.of());

    private static final ParseField GENDER = new ParseField("gender");
    private static final ParseField AGE_BAND = new ParseField("age_band");
    private static final ParseField RECENT_SIDS = new ParseField("recent_sids");
    private static final ParseField RECENT_ITEMS = new ParseField("recent_items");

    private static final ObjectParser<Draft, Void> PARSER = new ObjectParser<>("user", Draft::new);
    static {
        PARSER.declareString((draft, value) -> draft.gender = value, GENDER);
        PARSER.declareString((draft, value) -> draft.ageBand = value, AGE_BAND);
        PARSER.declareStringArray((draft, value) -> draft.recentSids = value, RECENT_SIDS);
        PARSER.declareStringArray((draft, value) -> draft.recentItems = value, RECENT_ITEMS);
    }

    private static final class Draft {
        private String gender;
        private String ageBand;
        private List<String> recentSids = List.of();
        private List<String> recentItems = List.of();
    }

    public UserContext(StreamInput in) throws IOException {
        this(in.readOptionalString(), in.readOptionalString(), in.readStringList(), in.readStringList());
    }

    /** The terms of {@code recent_sids} are checked by {@link #validate}, outside the parser, which would bury the message. */
    public static UserContext parse(XContentParser parser) throws IOException {
        Draft draft = PARSER.parse(parser, null);
        return new UserContext(draft.gender, draft.ageBand, List.copyOf(draft.recentSids), List.copyOf(draft.recentItems));
    }

    /** @throws IllegalArgumentException where one of {@code recent_sids} is no SID term */
    public UserContext validate() {
        for (String term : recentSids) {
            try {
                Sid.parse(term);
            } catch (IllegalArgumentException e) {
                throw new IllegalArgumentException("[generative] user.recent_sids: " + e.getMessage());
            }
        }
        return this;
    }

    @Override
    public void writeTo(StreamOutput out) throws IOException {
        out.writeOptionalString(gender);
        out.writeOptionalString(ageBand);
        out.writeStringCollection(recentSids);
        out.writeStringCollection(recentItems);
    }

    @Override
    public XContentBuilder toXContent(XContentBuilder builder, Params params) throws IOException {
        builder.startObject();
        if (gender != null) {
            builder.field(GENDER.getPreferredName(), gender);
        }
        if (ageBand != null) {
            builder.field(AGE_BAND.getPreferredName(), ageBand);
        }
        if (recentSids.isEmpty() == false) {
            builder.field(RECENT_SIDS.getPreferredName(), recentSids);
        }
        if (recentItems.isEmpty() == false) {
            builder.field(RECENT_ITEMS.getPreferredName(), recentItems);
        }
        return builder.endObject();
    }
}
