<?php

declare(strict_types=1);

namespace Taskbus;

/**
 * Thrown in a task, by progress(), where its caller is not there any more: nobody wants its result.
 * No \Exception, so that a task that catches those ends, too.
 */
final class HttpGone extends \Error
{
}
